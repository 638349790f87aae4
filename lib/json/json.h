/* lib/json/json.h - the few lines around jansson that every reader of JSON needs.
 *
 * Parsing is bounded in size and depth and tells line and column. Getters name the path of what is wrong:
 * "messages[2].role: expected a string, found a number". Values are jansson's own (json_t, json_decref); their memory
 * comes from jansson's allocator, not from aii_mem. Integers beyond 64 bits become reals. Any thread.
 */
#ifndef AII_JSON_H
#define AII_JSON_H

#include <jansson.h>

#include "lib/base/base.h"

#define AII_JSON_MAX_BYTES ((size_t)64 << 20)
#define AII_JSON_MAX_DEPTH 512u /* jansson itself ends at 2048 */

/* Parses one JSON value of any type. `what` names it in messages ("tools"). Malformed: EFORMAT; larger than
 * AII_JSON_MAX_BYTES or deeper than max_depth (0: AII_JSON_MAX_DEPTH): ELIMIT. On failure *out is NULL. */
aiinfra_status aii_json_parse(const char *text, size_t n, const char *what, uint32_t max_depth, json_t **out,
                              aiinfra_error *err);

/* Getters: the member `key` of `obj`, which itself lies at `path` ("" for the root). A member that is missing or
 * null leaves *out as it was: AIINFRA_OK, or EINVAL when `required`. A wrong type: EINVAL. What they hand out is
 * borrowed from obj. */
aiinfra_status aii_json_get_str(const json_t *obj, const char *path, const char *key, bool required, const char **out,
                                aiinfra_error *err);
aiinfra_status aii_json_get_int(const json_t *obj, const char *path, const char *key, bool required, int64_t *out,
                                aiinfra_error *err);
aiinfra_status aii_json_get_num(const json_t *obj, const char *path, const char *key, bool required, double *out,
                                aiinfra_error *err);
aiinfra_status aii_json_get_bool(const json_t *obj, const char *path, const char *key, bool required, bool *out,
                                 aiinfra_error *err);
aiinfra_status aii_json_get_array(const json_t *obj, const char *path, const char *key, bool required, json_t **out,
                                  aiinfra_error *err);
aiinfra_status aii_json_get_object(const json_t *obj, const char *path, const char *key, bool required, json_t **out,
                                   aiinfra_error *err);

/* Appends the compact JSON text of value; members keep their order. false: memory ran out (buf->failed is set). */
bool aii_json_dump(const json_t *value, aii_buf *buf);

/* A copy of an object or an array, its members shared; NULL: memory ran out. jansson's own copy leaves out what it
 * cannot add, and does not tell. */
json_t *aii_json_copy(const json_t *value);

/* "an object", "a string", ... for messages; NULL: "nothing". */
const char *aii_json_type(const json_t *value);

#endif
