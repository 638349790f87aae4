/* aiinfra/types.h - what every other header stands on: status codes, errors, allocator, log hook.
 *
 * Every function that can fail returns an aiinfra_status: AIINFRA_OK, which is 0, or a negative code. The last
 * parameter of such a function is an optional `aiinfra_error *` that the caller owns; it receives a message that
 * names the cause and the cure. It has a fixed size, so that it works when memory has run out.
 *
 * Options are structs passed by pointer. NULL means all defaults, and zero is the default of every field.
 * Initialise them with the AIINFRA_..._OPTS_INIT macro of the struct, which sets struct_size.
 *
 * Strings are UTF-8 and end in NUL. A `char **` output is owned by the caller; free it with aiinfra_string_free().
 */
#ifndef AIINFRA_TYPES_H
#define AIINFRA_TYPES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define AIINFRA_API __attribute__((visibility("default")))
#define AIINFRA_MUST_USE __attribute__((warn_unused_result))
#else
#define AIINFRA_API
#define AIINFRA_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define AIINFRA_VERSION_MAJOR 0
#define AIINFRA_VERSION_MINOR 1
#define AIINFRA_VERSION_PATCH 0
#define AIINFRA_VERSION_STRING "0.1.0"

/** The one list of status codes: X(name, value, text). The enum, the names and the texts are made from it. */
#define AIINFRA_STATUS_LIST(X)                                          \
  X(OK, 0, "success")                                                   \
  X(EINVAL, -1, "invalid argument")                                     \
  X(ENOMEM, -2, "out of memory")                                        \
  X(ENOTSUP, -3, "not supported by this build or version")              \
  X(ENOENT, -4, "not found")                                            \
  X(EEXIST, -5, "exists already")                                       \
  X(EIO, -6, "input or output failed")                                  \
  X(EFORMAT, -7, "malformed or corrupt data")                           \
  X(ENOSPC, -8, "no room left in a fixed-size buffer, cache or budget") \
  X(EBUSY, -9, "a queue is full or a resource is in use")               \
  X(ECANCELED, -10, "cancelled")                                        \
  X(ETIMEDOUT, -11, "the deadline passed")                              \
  X(ECLOSED, -12, "the object is closing")                              \
  X(EDEVICE, -13, "a compute device failed")                            \
  X(ETOOL, -14, "a tool failed")                                        \
  X(ELIMIT, -15, "a configured limit was reached")                      \
  X(EINTERNAL, -16, "an internal invariant did not hold; please report it")

/** What a call returned. Zero is success, everything else is negative. */
typedef enum aiinfra_status {
#define AIINFRA_STATUS_ENUM(name, value, text) AIINFRA_##name = (value),
  AIINFRA_STATUS_LIST(AIINFRA_STATUS_ENUM)
#undef AIINFRA_STATUS_ENUM
} aiinfra_status;

/** Bytes of aiinfra_error.message, the final NUL included; longer messages are cut at a character boundary. */
#define AIINFRA_ERROR_MESSAGE_MAX 504

/** The detail of a failure. Owned by the caller, needs no initialisation and no clean-up. */
typedef struct aiinfra_error {
  int32_t status;                          /**< the aiinfra_status that the call returned */
  int32_t code;                            /**< errno, SQLite or CUDA code behind it; 0: none */
  char message[AIINFRA_ERROR_MESSAGE_MAX]; /**< the cause and the cure, outermost context first */
} aiinfra_error;

/** A token id of a model's vocabulary. */
typedef int32_t aiinfra_token;

/** Element types of tensors, vectors and caches. The values are GGUF's tensor type ids plus one. */
typedef enum aiinfra_dtype {
  AIINFRA_DTYPE_DEFAULT = 0, /**< as the context says */
  AIINFRA_DTYPE_F32 = 1,     /**< IEEE 754 binary32 */
  AIINFRA_DTYPE_F16 = 2,     /**< IEEE 754 binary16 */
  AIINFRA_DTYPE_Q4_0 = 3,    /**< 32 4-bit integers with one F16 scale, 18 bytes */
  AIINFRA_DTYPE_Q8_0 = 9,    /**< 32 8-bit integers with one F16 scale, 34 bytes */
  AIINFRA_DTYPE_BF16 = 31    /**< upper half of binary32 */
} aiinfra_dtype;

/**
 * The host's allocator. All three functions must be thread safe. A failed allocation returns NULL and is
 * reported to the caller as AIINFRA_ENOMEM.
 */
typedef struct aiinfra_allocator {
  void *(*alloc)(void *user, size_t size);              /**< as malloc: aligned for any type */
  void *(*resize)(void *user, void *ptr, size_t size);  /**< as realloc; ptr is never NULL, size never 0 */
  void (*release)(void *user, void *ptr);               /**< as free; ptr is never NULL */
  void *user;                                           /**< handed to the three functions */
} aiinfra_allocator;

/** How important a log line is. */
typedef enum aiinfra_log_level {
  AIINFRA_LOG_ERROR = 1, /**< something failed and no caller was there to be told */
  AIINFRA_LOG_WARN = 2,  /**< it works, but not as well as the host may expect */
  AIINFRA_LOG_INFO = 3,  /**< rare events: a model loaded, a server started */
  AIINFRA_LOG_DEBUG = 4  /**< for developers of the library */
} aiinfra_log_level;

/** Receives a log line without line end. Called from any thread; must not call back into the library. */
typedef void (*aiinfra_log_fn)(void *user, aiinfra_log_level level, const char *message);

/** Called once when something that was asked to close is gone. Runs on the loop's thread. */
typedef void (*aiinfra_close_cb)(void *user);

/** Reports progress of long work, 0 to 1. A return value other than 0 cancels the work (AIINFRA_ECANCELED). */
typedef int (*aiinfra_progress_fn)(void *user, double fraction);

/**
 * The name of a status, such as "AIINFRA_EINVAL".
 * @return a static string; "AIINFRA_E?" for a value that is no status
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API const char *aiinfra_status_name(aiinfra_status status);

/**
 * The text of a status, such as "invalid argument".
 * @return a static string
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API const char *aiinfra_status_text(aiinfra_status status);

/**
 * The version of the library that is loaded, such as "0.1.0"; AIINFRA_VERSION_STRING is the one compiled against.
 * @return a static string
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API const char *aiinfra_version(void);

/**
 * Frees a string that the library returned through a `char **`. NULL is allowed. It must be freed before the
 * runtime whose allocator it came from.
 * Thread: any.  Since: 0.1.
 */
AIINFRA_API void aiinfra_string_free(char *string);

#ifdef __cplusplus
}
#endif
#endif
