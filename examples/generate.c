/* generate.c - the shortest useful program: open a model, greet it, print its answer as it comes.
 *
 *   generate MODEL.gguf ["Once upon a time"]      with a text: continues it, for models without a chat template
 */
#include <aiinfra.h>
#include <stdio.h>

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  if (status != AIINFRA_OK) *(aiinfra_error *)user = *result->error;
}

static void on_chunk(void *user, const aiinfra_chunk *chunk)
{
  (void)user;
  fwrite(chunk->text, 1, chunk->n_bytes, stdout);
  fflush(stdout);
}

int main(int argc, char **argv)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_kv *kv = NULL;
  aiinfra_batcher *batcher = NULL;
  aiinfra_request *request = NULL;
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_error err = {0};

  if (argc > 2) opts.text = argv[2];
  else opts.messages_json = "[{\"role\": \"user\", \"content\": \"Hello!\"}]";
  opts.max_tokens = 64;
  if (argc < 2) return fprintf(stderr, "usage: generate MODEL.gguf [TEXT]\n"), 2;

  if (aiinfra_runtime_create(NULL, &runtime, &err) == AIINFRA_OK &&
      aiinfra_model_open(runtime, argv[1], NULL, &model, &err) == AIINFRA_OK &&
      aiinfra_kv_create(model, NULL, &kv, &err) == AIINFRA_OK &&
      aiinfra_batcher_create(model, kv, NULL, &batcher, &err) == AIINFRA_OK &&
      aiinfra_batcher_generate(batcher, &opts, on_chunk, on_result, &err, &request, &err) == AIINFRA_OK &&
      aiinfra_request_wait(request, -1, NULL) == AIINFRA_OK) {
    printf("\n");
  }
  if (err.status != AIINFRA_OK) fprintf(stderr, "generate: %s\n", err.message);

  aiinfra_request_free(request); /* every free takes NULL */
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return err.status == AIINFRA_OK ? 0 : 1;
}
