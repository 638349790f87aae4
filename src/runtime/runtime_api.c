/* runtime_api.c - the public functions of the runtime: check arguments, load options, call down. */
#include "src/runtime/runtime.h"

aiinfra_status aiinfra_runtime_create(const aiinfra_runtime_opts *opts, aiinfra_runtime **out, aiinfra_error *err)
{
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  aiinfra_runtime_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, pin_threads, err);
  if (rc == AIINFRA_OK) rc = aii_runtime_create(&o, out, err);
  return rc;
}

aiinfra_status aiinfra_runtime_rank(const aiinfra_runtime *runtime, uint32_t *rank, uint32_t *n_ranks,
                                    aiinfra_error *err)
{
  if (runtime == NULL || rank == NULL || n_ranks == NULL)
    return aii_fail(err, AIINFRA_EINVAL, "runtime, rank or n_ranks is NULL");
  *rank = runtime->comm != NULL ? runtime->comm->rank : 0;
  *n_ranks = runtime->comm != NULL ? runtime->comm->size : 1;
  return AIINFRA_OK;
}

aiinfra_status aiinfra_runtime_run(aiinfra_runtime *runtime, aiinfra_error *err)
{
  if (runtime == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime is NULL");
  aii_runtime_ref(runtime);
  aiinfra_status rc = aii_loop_run(runtime->loop, NULL, NULL, -1, err);
  aii_runtime_unref(runtime);
  return rc;
}

void aiinfra_runtime_stop(aiinfra_runtime *runtime)
{
  if (runtime != NULL) aii_loop_stop(runtime->loop);
}

void aiinfra_runtime_close(aiinfra_runtime *runtime, aiinfra_close_cb closed, void *user)
{
  if (runtime == NULL) return;
  runtime->closed = closed;
  runtime->closed_user = user;
  aii_runtime_unref(runtime);
}

void aiinfra_runtime_free(aiinfra_runtime *runtime)
{
  if (runtime == NULL) return;
  if (aii_loop_owned(runtime->loop)) aii_loop_drain(runtime->loop);
  aii_runtime_unref(runtime);
}

aiinfra_status aiinfra_runtime_describe(const aiinfra_runtime *runtime, char **out_json, aiinfra_error *err)
{
  static const char *const isa_names[] = {"default", "ref", "avx2", "avx512", "avxvnni", "amx"};
  if (runtime == NULL || out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime or out_json is NULL");
  aiinfra_runtime *rt = (aiinfra_runtime *)(uintptr_t)runtime; /* the counters are not part of its value */
  aii_buf buf;
  aii_buf_init(&buf, &rt->mem, 0);
  aii_buf_fmt(&buf,
              "{\"version\": \"%s\", \"isa\": \"%s\", \"n_threads\": %u, \"devices\": [\"%s\"], "
              "\"used_bytes\": %zu, \"peak_bytes\": %zu",
              AIINFRA_VERSION_STRING, isa_names[rt->isa], aii_pool_threads(rt->pool), rt->backend->ops->name,
              (size_t)atomic_load(&rt->mem.used_bytes), (size_t)atomic_load(&rt->mem.peak_bytes));
  if (rt->no_cuda != NULL) {
    aii_buf_str(&buf, ", \"no_cuda\": ");
    aii_buf_json(&buf, rt->no_cuda, strlen(rt->no_cuda));
  }
  aii_buf_char(&buf, '}');
  return aii_buf_export(&buf, out_json, err);
}

aiinfra_status aiinfra_runtime_metrics(const aiinfra_runtime *runtime, char **out_text, aiinfra_error *err)
{
  if (runtime == NULL || out_text == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime or out_text is NULL");
  aii_buf buf;
  aii_buf_init(&buf, (aii_mem *)(uintptr_t)&runtime->mem, 0);
  aii_metrics_render(runtime->metrics, &buf);
  return aii_buf_export(&buf, out_text, err);
}
