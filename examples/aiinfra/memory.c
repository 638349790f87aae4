/* memory.c - `aiinfra search`, `remember` and `forget`: a database's memory from the command line. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "models.h"

typedef struct store {
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_memory *memory;
} store;

static int open_store(const char *command, const char *path, bool must_exist, const char *scope, store *s)
{
  int code;
  memset(s, 0, sizeof *s);
  if (path == NULL) return cli_usage(command, "--db FILE is missing");
  code = cli_runtime_open(1, &s->runtime);
  return code == CLI_OK ? cli_db_open(s->runtime, path, must_exist, scope, &s->db, &s->memory) : code;
}

static void close_store(store *s)
{
  aiinfra_memory_free(s->memory);
  aiinfra_db_free(s->db);
  aiinfra_runtime_free(s->runtime);
}

/* ---- search ------------------------------------------------------------------------------------------------------------ */

static void show_item(const json_t *item)
{
  const char *source = json_string_value(json_object_get(item, "source"));
  const char *text = json_string_value(json_object_get(item, "text"));
  printf("%6.3f  #%lld  %s\n", json_number_value(json_object_get(item, "score")),
         (long long)json_integer_value(json_object_get(item, "id")), source != NULL && *source ? source : "(fact)");
  for (const char *line = text; line != NULL && *line != '\0';) {
    size_t n = strcspn(line, "\n");
    printf("        %.*s\n", (int)n, line);
    line += n + (line[n] == '\n');
  }
}

static int show_items(const char *text)
{
  json_t *items = json_loads(text, 0, NULL), *item;
  size_t i;
  if (items == NULL) return cli_fail("out of memory");
  json_array_foreach(items, i, item) show_item(item);
  if (json_array_size(items) == 0) cli_say("nothing found");
  json_decref(items);
  return CLI_OK;
}

typedef struct search_args {
  const char *db_path, *scope, *embedder, *reranker, *tokenizer;
  int64_t k, pack;
  bool as_json, explain, words_only, vector_only;
  aiinfra_recall_opts opts;
  cli_models models;
} search_args;

static int show_packed(const char *text)
{
  json_t *packed = json_loads(text, 0, NULL), *source;
  size_t i;
  if (packed == NULL) return cli_fail("out of memory");
  printf("%s\n", json_string_value(json_object_get(packed, "text")));
  json_array_foreach(json_object_get(packed, "sources"), i, source)
  {
    const char *document = json_string_value(json_object_get(source, "document"));
    if (json_object_get(source, "begin") == NULL) continue;
    cli_say("[%lld] %s, bytes %lld to %lld", (long long)json_integer_value(json_object_get(source, "n")), document,
            (long long)json_integer_value(json_object_get(source, "begin")),
            (long long)json_integer_value(json_object_get(source, "end")));
  }
  cli_say("%lld tokens", (long long)json_integer_value(json_object_get(packed, "tokens")));
  json_decref(packed);
  return CLI_OK;
}

/* The answer as JSON: the hits, or one text. */
static int ask(const char *query, search_args *a, aiinfra_memory *memory, const aiinfra_model *model, char **text)
{
  aiinfra_pack_opts pack = AIINFRA_PACK_OPTS_INIT;
  aiinfra_error err;
  if (a->embedder != NULL && aiinfra_memory_use_embedder(memory, &a->models.embedder, &err) != AIINFRA_OK)
    return cli_error("search", &err);
  pack.recall = &a->opts;
  pack.budget_tokens = (uint32_t)a->pack;
  pack.model = model;
  if (a->reranker != NULL) pack.rerank = cli_rerank;
  pack.rerank_user = &a->models;
  aiinfra_status rc = a->pack > 0 ? aiinfra_memory_pack(memory, query, &pack, text, &err)
                                  : aiinfra_memory_recall(memory, query, &a->opts, text, &err);
  return rc == AIINFRA_OK ? CLI_OK : cli_error("search", &err);
}

static int do_search(const char *query, search_args *a)
{
  aiinfra_model_opts vocabulary = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_model *model = NULL;
  aiinfra_error err;
  store s;
  char *text = NULL, *story = NULL;
  int code = open_store("search", a->db_path, true, a->scope, &s);
  vocabulary.vocab_only = 1;
  a->opts.k = (uint32_t)a->k;
  if (a->words_only) a->opts.mode = AIINFRA_RECALL_WORDS;
  if (a->vector_only) a->opts.mode = AIINFRA_RECALL_VECTOR;
  if (a->explain) a->opts.explain = &story;
  if (code == CLI_OK && a->tokenizer != NULL &&
      aiinfra_model_open(s.runtime, a->tokenizer, &vocabulary, &model, &err) != AIINFRA_OK)
    code = cli_error(a->tokenizer, &err);
  if (code == CLI_OK) code = ask(query, a, s.memory, model, &text);
  if (code == CLI_OK && a->as_json) printf("%s\n", text);
  else if (code == CLI_OK) code = a->pack > 0 ? show_packed(text) : show_items(text);
  if (code == CLI_OK && a->explain) cli_say("%s", story);
  aiinfra_string_free(story);
  aiinfra_string_free(text);
  aiinfra_model_free(model);
  close_store(&s);
  return code;
}

static int check_search(const search_args *a)
{
  if (a->words_only && a->vector_only) return cli_usage("search", "--words-only and --vector-only exclude each other");
  if (a->pack == 0 && (a->reranker != NULL || a->tokenizer != NULL))
    return cli_usage("search", "--rerank and --tokenizer need --pack TOKENS");
  return CLI_OK;
}

int cmd_search(int argc, char **argv)
{
  search_args a = {.opts = AIINFRA_RECALL_OPTS_INIT};
  const cli_option options[] = {
      {"db", 0, CLI_TEXT, &a.db_path, 0, 0, "FILE", "the database"},
      {"scope", 0, CLI_TEXT, &a.scope, 0, 0, "NAME", "whose memory (default)"},
      {"k", 'k', CLI_INT, &a.k, 1, 1000, "N", "hits at most (5, with --pack 20)"},
      {"filter", 0, CLI_TEXT, &a.opts.filter_json, 0, 0, "JSON",
       "only what passes, such as {\"source\": \"notes.md\"}"},
      {"words-only", 0, CLI_FLAG, &a.words_only, 0, 0, NULL, "look for the words alone"},
      {"vector-only", 0, CLI_FLAG, &a.vector_only, 0, 0, NULL, "compare vectors alone"},
      {"embedder", 0, CLI_TEXT, &a.embedder, 0, 0, "MODEL", "the model that the memory was migrated to"},
      {"pack", 0, CLI_INT, &a.pack, 1, 1000000, "TOKENS", "one text for a prompt, of so many tokens at most"},
      {"tokenizer", 0, CLI_TEXT, &a.tokenizer, 0, 0, "MODEL", "count this model's tokens, not four bytes"},
      {"rerank", 0, CLI_TEXT, &a.reranker, 0, 0, "MODEL", "a reranker that orders what is packed"},
      {"explain", 0, CLI_FLAG, &a.explain, 0, 0, NULL, "tell on stderr how it was found, as JSON"},
      {"json", 0, CLI_FLAG, &a.as_json, 0, 0, NULL, "as the library gives it"},
      {0}};
  const cli_command command = {
      "search", "--db FILE QUERY", "Finds what fits a question best, passages and facts.", options, 1, 1};
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = check_search(&a);
  if (code != CLI_OK) return code;
  code = cli_models_open(&a.models, a.embedder, a.reranker);
  if (code == CLI_OK) code = do_search(argv[0], &a);
  cli_models_close(&a.models);
  return code;
}

/* ---- remember and forget -------------------------------------------------------------------------------------------------- */

int cmd_remember(int argc, char **argv)
{
  const char *db_path = NULL, *scope = NULL;
  const cli_option options[] = {{"db", 0, CLI_TEXT, &db_path, 0, 0, "FILE", "the database; made when it is not there"},
                                {"scope", 0, CLI_TEXT, &scope, 0, 0, "NAME", "whose memory (default)"},
                                {0}};
  const cli_command command = {"remember", "--db FILE TEXT", "Keeps a fact and prints its number.", options, 1, 1};
  aiinfra_error err;
  int64_t id = 0;
  store s;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_store("remember", db_path, false, scope, &s);
  if (code == CLI_OK && aiinfra_memory_remember(s.memory, argv[0], NULL, &id, &err) != AIINFRA_OK)
    code = cli_error("remember", &err);
  if (code == CLI_OK) printf("%lld\n", (long long)id);
  close_store(&s);
  return code;
}

int cmd_forget(int argc, char **argv)
{
  const char *db_path = NULL, *scope = NULL;
  const cli_option options[] = {{"db", 0, CLI_TEXT, &db_path, 0, 0, "FILE", "the database"},
                                {"scope", 0, CLI_TEXT, &scope, 0, 0, "NAME", "whose memory (default)"},
                                {0}};
  const cli_command command = {"forget",
                               "--db FILE NUMBER...",
                               "Forgets facts and passages for good, by the numbers that search shows.",
                               options,
                               1,
                               -1};
  aiinfra_error err;
  store s;
  int n, code;
  if (!cli_parse(&command, argc, argv, &n, &code)) return code;
  code = open_store("forget", db_path, true, scope, &s);
  for (int i = 0; i < n && code == CLI_OK; i++) {
    char *end;
    const char *digits = argv[i][0] == '#' ? argv[i] + 1 : argv[i];
    long long id = strtoll(digits, &end, 10);
    if (end == digits || *end != '\0') code = cli_usage("forget", "'%.40s' is no number", argv[i]);
    else if (aiinfra_memory_forget(s.memory, id, &err) != AIINFRA_OK) code = cli_error(argv[i], &err);
  }
  close_store(&s);
  return code;
}
