/* convert_api.c - the public function of aiinfra/convert.h: checks the arguments, loads the options, calls down. */
#include "src/model/arch.h"

aiinfra_status aiinfra_convert(aiinfra_runtime *runtime, const char *from, const char *to,
                               const aiinfra_convert_opts *opts, aiinfra_error *err)
{
  aiinfra_convert_opts o;
  if (runtime == NULL || from == NULL || to == NULL) {
    return aii_fail(err, AIINFRA_EINVAL, "runtime, from or to is NULL");
  }
  if (to[0] == '\0') return aii_fail(err, AIINFRA_EINVAL, "to is empty");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, progress_user, err);
  return rc == AIINFRA_OK ? aii_convert(&runtime->mem, from, to, &o, err) : rc;
}
