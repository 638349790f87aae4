/* source.c - what a path names: a GGUF file, a Hugging Face folder or a file of one, a llama2.c checkpoint.
 *
 * The kind is found by looking, not by asking: a folder is Hugging Face's; a file that begins with GGUF's letters is
 * one; config.json, safetensors files and their index stand for the folder around them; *.bin is a checkpoint. All else
 * goes to the GGUF reader, which says what it is not.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/model/gguf.h"

static bool ends_with(const char *s, const char *end)
{
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcmp(s + n - m, end) == 0;
}

static bool begins_as_gguf(const char *path)
{
  char front[4];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  bool is = read(fd, front, sizeof front) == (ssize_t)sizeof front && memcmp(front, "GGUF", 4) == 0;
  (void)close(fd);
  return is;
}

static bool is_of_folder(const char *path)
{
  const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
  return strcmp(name, "config.json") == 0 || ends_with(name, ".safetensors") ||
         ends_with(name, ".safetensors.index.json");
}

static aiinfra_status open_around(aii_mem *mem, const char *path, aii_gguf **out, aiinfra_error *err)
{
  const char *slash = strrchr(path, '/');
  char *folder = slash == NULL ? aii_strdup(mem, ".") : aii_strndup(mem, path, (size_t)AII_MAX(slash - path, 1));
  if (folder == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  aiinfra_status rc = aii_hf_open(mem, folder, out, err);
  aii_strfree(mem, folder);
  return rc;
}

aiinfra_status aii_source_open(aii_mem *mem, const char *path, const char *tokenizer, aii_gguf **out,
                               aiinfra_error *err)
{
  struct stat st;
  *out = NULL;
  if (stat(path, &st) == 0) {
    if (S_ISDIR(st.st_mode)) return aii_hf_open(mem, path, out, err);
    if (S_ISREG(st.st_mode) && !begins_as_gguf(path)) {
      if (is_of_folder(path)) return open_around(mem, path, out, err);
      if (ends_with(path, ".bin")) return aii_llama2c_open(mem, path, tokenizer, out, err);
    }
  }
  return aii_gguf_open(mem, path, out, err);
}
