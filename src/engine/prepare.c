/* prepare.c - turns what the host wrote into what the scheduler and the sampler need.
 *
 * The happy path is: render messages, tokenise, check the length, compile the schema or the tools to a grammar, make
 * penalties and a sampler. Possible failures are: bad JSON, schema or template (EINVAL, ENOTSUP), a prompt that does not
 * fit (EINVAL), memory (ENOMEM). Runs inside the submitting call, or on libuv's pool when there is much to read: it touches the gen
 * and the immutable model only.
 */
#include "src/engine/engine.h"

/* A forced call needs a format even when the chat template declares none; this one models know best. */
static const char fallback_format[] = "hermes";

enum { TOKENIZE_SPECIAL = AIINFRA_TOKENIZE_SPECIAL, TOKENIZE_BOS = AIINFRA_TOKENIZE_BOS };

/* What the host wrote is an argument, not a file: malformed is EINVAL. */
static aiinfra_status blame(aiinfra_error *err, aiinfra_status rc, const char *field)
{
  if (rc == AIINFRA_OK) return rc;
  return aii_wrap(err, rc == AIINFRA_EFORMAT ? AIINFRA_EINVAL : rc, "%s", field);
}

/* ---- prompt ----------------------------------------------------------------------------------------------------- */

/* The tokens become the prompt, if making them went well. */
static aiinfra_status keep_tokens(aii_gen *gen, aii_tokens *tokens, aiinfra_status rc, aiinfra_error *err)
{
  if (rc == AIINFRA_OK && tokens->n > UINT32_MAX / 2)
    rc = aii_fail(err, AIINFRA_EINVAL, "the prompt has %zu tokens", tokens->n);
  if (rc != AIINFRA_OK) {
    aii_tokens_free(tokens);
    return rc;
  }
  gen->seq.tokens = tokens->items;
  gen->cap_tokens = tokens->cap;
  gen->seq.n_prompt = (uint32_t)tokens->n;
  return AIINFRA_OK;
}

static aiinfra_status tokenize(aii_gen *gen, const char *text, size_t n, uint32_t flags, aiinfra_error *err)
{
  aii_tokens tokens;
  aii_tokens_init(&tokens, &gen->batcher->rt->mem);
  aiinfra_status rc = aii_tokenize(gen->batcher->model->vocab, text, n, flags, &tokens, err);
  return keep_tokens(gen, &tokens, rc, err);
}

/* A static model knows words alone: no token begins or ends a text, and those that stand for no word are left out
 * unless there is no other. */
static aiinfra_status tokenize_words(aii_gen *gen, aiinfra_error *err)
{
  const aii_vocab *vocab = gen->batcher->model->vocab;
  aiinfra_status rc = tokenize(gen, gen->input.text, strlen(gen->input.text), 0, err);
  aii_seq *seq = &gen->seq;
  uint32_t n = 0;
  for (uint32_t i = 0; rc == AIINFRA_OK && i < seq->n_prompt; i++)
    if (seq->tokens[i] != aii_vocab_unk(vocab)) seq->tokens[n++] = seq->tokens[i];
  if (n > 0) seq->n_prompt = n;
  return rc;
}

/* The template writes the model's own markers, the begin of the sequence among them. */
static aiinfra_status tokenize_messages(aii_gen *gen, aii_buf *text, aiinfra_error *err)
{
  aiinfra_render_opts opts = AIINFRA_RENDER_OPTS_INIT;
  opts.messages_json = gen->input.messages_json;
  opts.tools_json = gen->input.tools_json;
  opts.variables_json = gen->input.variables_json;
  opts.add_generation_prompt = 1;
  aiinfra_status rc = aii_model_render(gen->batcher->model, &opts, true, text, err);
  rc = blame(err, rc, "messages_json");
  if (rc == AIINFRA_OK && text->over)
    rc = aii_fail(err, AIINFRA_ELIMIT, "the rendered prompt is longer than %d bytes", AII_MAX_PROMPT_BYTES);
  if (rc == AIINFRA_OK && text->failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the rendered prompt");
  if (rc != AIINFRA_OK) return rc;
  return tokenize(gen, aii_buf_cstr(text), text->len, TOKENIZE_SPECIAL | AII_TOKENIZE_GUARDED, err);
}

/* Replaces {query} and {document} of a reranker's own prompt. */
static void fill_prompt(const char *prompt, const char *query, const char *document, aii_buf *out)
{
  static const char query_mark[] = "{query}", document_mark[] = "{document}";
  while (*prompt != '\0') {
    size_t n = strcspn(prompt, "{");
    aii_buf_add(out, prompt, n);
    prompt += n;
    if (strncmp(prompt, query_mark, sizeof query_mark - 1) == 0) {
      aii_buf_str(out, query);
      prompt += sizeof query_mark - 1;
    } else if (strncmp(prompt, document_mark, sizeof document_mark - 1) == 0) {
      aii_buf_str(out, document);
      prompt += sizeof document_mark - 1;
    } else if (*prompt != '\0') {
      aii_buf_char(out, *prompt++);
    }
  }
}

static aiinfra_status add_token(aii_tokens *tokens, aiinfra_token token, aiinfra_error *err)
{
  if (token < 0) return AIINFRA_OK;
  if (!aii_grow(tokens->mem, &tokens->items, &tokens->cap, tokens->n + 1, sizeof *tokens->items))
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu tokens", tokens->n + 1);
  tokens->items[tokens->n++] = token;
  return AIINFRA_OK;
}

/* What stands behind a text: the last token around an empty one, if the model puts any there; else end of sequence. */
static aiinfra_status find_end(const aii_vocab *vocab, aii_tokens *scratch, aiinfra_token *end, aiinfra_error *err)
{
  aiinfra_status rc = aii_tokenize(vocab, "", 0, TOKENIZE_BOS, scratch, err);
  *end = scratch->n > 1 ? scratch->items[scratch->n - 1] : aii_vocab_eos(vocab);
  scratch->n = 0;
  return rc;
}

/* Begin, query, end, (end,) document, end: as encoders were trained on pairs. */
static aiinfra_status make_pair(aii_gen *gen, aii_tokens *out, aiinfra_error *err)
{
  const aiinfra_model *m = gen->batcher->model;
  const char *query = gen->input.query, *document = gen->input.text;
  aiinfra_token end = -1;
  aiinfra_status rc = find_end(m->vocab, out, &end, err);
  if (rc == AIINFRA_OK) rc = aii_tokenize(m->vocab, query, strlen(query), TOKENIZE_BOS, out, err);
  if (rc == AIINFRA_OK && (out->n == 0 || out->items[out->n - 1] != end)) rc = add_token(out, end, err);
  if (rc == AIINFRA_OK && m->head->two_seps) rc = add_token(out, end, err);
  gen->second = m->head->pair_types ? (uint32_t)AII_MIN(out->n, (size_t)UINT32_MAX) : 0;
  if (rc == AIINFRA_OK) rc = aii_tokenize(m->vocab, document, strlen(document), 0, out, err);
  return rc == AIINFRA_OK ? add_token(out, end, err) : rc;
}

static aiinfra_status tokenize_pair(aii_gen *gen, aiinfra_error *err)
{
  const aiinfra_model *m = gen->batcher->model;
  aii_tokens tokens;
  aii_buf text;
  aii_tokens_init(&tokens, &gen->batcher->rt->mem);
  aii_buf_init(&text, &gen->batcher->rt->mem, 0);
  aiinfra_status rc;
  if (m->head->prompt == NULL) {
    rc = make_pair(gen, &tokens, err);
  } else {
    fill_prompt(m->head->prompt, gen->input.query, gen->input.text, &text);
    rc = text.failed
             ? aii_fail(err, AIINFRA_ENOMEM, "no memory for a prompt")
             : aii_tokenize(m->vocab, aii_buf_cstr(&text), text.len, TOKENIZE_SPECIAL | TOKENIZE_BOS, &tokens, err);
  }
  aii_buf_free(&text);
  return keep_tokens(gen, &tokens, rc, err);
}

static aiinfra_status make_prompt(aii_gen *gen, aii_buf *rendered, aiinfra_error *err)
{
  if (gen->input.query != NULL) return tokenize_pair(gen, err);
  if (gen->input.text != NULL && gen->batcher->model->hp.n_layers == 0) return tokenize_words(gen, err);
  if (gen->input.text != NULL) return tokenize(gen, gen->input.text, strlen(gen->input.text), TOKENIZE_BOS, err);
  if (gen->input.messages_json != NULL) return tokenize_messages(gen, rendered, err);
  return AIINFRA_OK; /* tokens: copied already */
}

static aiinfra_status check_length(aii_gen *gen, aiinfra_error *err)
{
  const aiinfra_batcher *b = gen->batcher;
  aii_seq *seq = &gen->seq;
  uint32_t answer = seq->embed ? 0 : 1;
  if (seq->n_prompt == 0) return aii_fail(err, AIINFRA_EINVAL, "the prompt is empty");
  if (seq->n_prompt > b->max_total - answer) {
    bool model = b->max_total == b->model->max_context;
    return aii_fail(err, AIINFRA_EINVAL, "the prompt has %u tokens, %s %u%s", seq->n_prompt,
                    model ? "the model's context has" : "the cache has room for", b->max_total,
                    answer ? ", and at least one is to be generated" : "");
  }
  uint32_t room = b->max_total - seq->n_prompt;
  uint32_t more = seq->embed ? 0 : gen->max_tokens == 0 ? room : AII_MIN(gen->max_tokens, room);
  seq->max_total = seq->n_prompt + more;
  return AIINFRA_OK;
}

/* ---- grammar ---------------------------------------------------------------------------------------------------- */

static aiinfra_status make_tools_grammar(aii_gen *gen, const aii_buf *rendered, aii_output_syntax *syntax,
                                         aiinfra_error *err)
{
  aii_tool_grammar_opts opts = {.tools_json = gen->input.tools_json, .choice = gen->input.tool_choice};
  bool lazy = opts.choice == NULL || strcmp(opts.choice, "auto") == 0, can = aii_grammar_knows(syntax->format, lazy);
  if (lazy && !can) return AIINFRA_OK; /* what calls there are will be found */
  if (!can) syntax->format = aii_output_format(fallback_format);
  opts.syntax = *syntax;
  if (gen->input.messages_json != NULL) opts.prompt = aii_buf_cstr(rendered), opts.n_prompt = rendered->len;
  else opts.syntax.think = opts.syntax.think_end = NULL;
  aiinfra_status rc = aii_grammar_from_tools(&gen->batcher->rt->mem, &opts, &gen->grammar, err);
  return blame(err, rc, "tools_json");
}

/* Text is taken apart where the template told how: reasoning of chats, calls where there are tools. A grammar that
 * holds from the first byte leaves no room for reasoning. */
static aiinfra_status make_output(aii_gen *gen, aii_output_syntax syntax, const aii_buf *rendered, bool forced,
                                  aiinfra_error *err)
{
  aii_output_opts opts = {.syntax = syntax, .tools_json = gen->input.tools_json};
  bool chat = gen->input.messages_json != NULL;
  if (!chat || forced) opts.syntax.think = opts.syntax.think_end = NULL;
  if (opts.tools_json == NULL && !chat) return AIINFRA_OK;
  if (opts.syntax.format == NULL && opts.syntax.think == NULL) return AIINFRA_OK;
  if (chat) opts.prompt = aii_buf_cstr(rendered), opts.n_prompt = rendered->len;
  opts.seed = aii_hash64(gen->seq.tokens, gen->seq.n_prompt * sizeof *gen->seq.tokens, 0);
  return blame(err, aii_output_create(&gen->batcher->rt->mem, &opts, &gen->output, err), "tools_json");
}

static aiinfra_status make_grammar(aii_gen *gen, const aii_buf *rendered, aii_output_syntax *syntax, aiinfra_error *err)
{
  aii_mem *mem = &gen->batcher->rt->mem;
  aiinfra_status rc = AIINFRA_OK;
  if (gen->input.json_schema != NULL) {
    rc = aii_grammar_from_schema(mem, gen->input.json_schema, &gen->grammar, err);
    rc = blame(err, rc, "json_schema");
  } else if (gen->input.tools_json != NULL) {
    rc = make_tools_grammar(gen, rendered, syntax, err);
  }
  if (rc != AIINFRA_OK || gen->grammar == NULL) return rc;
  return aii_grammar_start(mem, gen->grammar, gen->batcher->model->vocab, &gen->grammar_state, err);
}

/* ---- the rest --------------------------------------------------------------------------------------------------- */

/* Whether the prompt has no text of its own: the output then starts a text and loses a leading space. */
static bool starts_text(const aii_gen *gen)
{
  for (uint32_t i = 0; i < gen->seq.n_prompt; i++)
    if (aii_vocab_piece(gen->batcher->model->vocab, gen->seq.tokens[i], false).n > 0) return false;
  return true;
}

aiinfra_status aii_gen_prepare(aii_gen *gen, aiinfra_error *err)
{
  aii_output_syntax syntax = gen->batcher->model->syntax;
  aii_buf rendered;
  aii_buf_init(&rendered, &gen->batcher->rt->mem, AII_MAX_PROMPT_BYTES);
  aiinfra_status rc = make_prompt(gen, &rendered, err);
  if (rc == AIINFRA_OK) rc = check_length(gen, err);
  if (rc == AIINFRA_OK && !gen->seq.embed) {
    rc = make_grammar(gen, &rendered, &syntax, err);
    bool forced = gen->grammar != NULL && !aii_grammar_waits(gen->grammar);
    if (rc == AIINFRA_OK) rc = aii_gen_make_penalty(gen, err);
    if (rc == AIINFRA_OK && gen->input.quotes_json != NULL)
      rc = aii_quote_create(&gen->batcher->rt->mem, gen->batcher->model->vocab, gen->input.quotes_json, &gen->quote,
                            err);
    if (rc == AIINFRA_OK) rc = make_output(gen, syntax, &rendered, forced, err);
    if (rc == AIINFRA_OK)
      rc = aii_sampler_create(&gen->batcher->rt->mem, &gen->sampling, gen->batcher->model->hp.n_vocab, &gen->sampler,
                              err);
  }
  if (rc == AIINFRA_OK) aii_stream_start(&gen->stream, gen->batcher->model->vocab, starts_text(gen));
  aii_buf_free(&rendered);
  aii_gen_drop_input(gen);
  return rc;
}
