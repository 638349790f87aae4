/* prepare.c - turns what the host wrote into what the scheduler and the sampler need.
 *
 * The happy path is: render messages, tokenise, check the length, compile the schema or the tools to a grammar, make a
 * sampler. Possible failures are: bad JSON, schema or template (EINVAL, ENOTSUP), a prompt that does not fit (EINVAL),
 * memory (ENOMEM). Runs inside the submitting call, or on libuv's pool when there is much to read: it touches the gen
 * and the immutable model only.
 */
#include "src/engine/engine.h"

/* A forced call needs a syntax even when the chat template declares none; this one models know best. */
static const char fallback_syntax[] = "hermes";

/* The text that opens a call, by syntax. */
static const struct {
  const char *syntax, *opening;
} openings[] = {{"hermes", "<tool_call>"}};

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

/* The template writes the model's own markers, the begin of the sequence among them. */
static aiinfra_status tokenize_messages(aii_gen *gen, aiinfra_error *err)
{
  aii_buf text;
  aii_buf_init(&text, &gen->batcher->rt->mem, AII_MAX_PROMPT_BYTES);
  aiinfra_status rc =
      aii_model_render(gen->batcher->model, gen->input.messages_json, gen->input.tools_json, true, &text, err);
  rc = blame(err, rc, "messages_json");
  if (rc == AIINFRA_OK && text.over)
    rc = aii_fail(err, AIINFRA_ELIMIT, "the rendered prompt is longer than %d bytes", AII_MAX_PROMPT_BYTES);
  if (rc == AIINFRA_OK && text.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for the rendered prompt");
  if (rc == AIINFRA_OK) rc = tokenize(gen, aii_buf_cstr(&text), text.len, TOKENIZE_SPECIAL, err);
  aii_buf_free(&text);
  return rc;
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
static aiinfra_status make_pair(const aii_gen *gen, aii_tokens *out, aiinfra_error *err)
{
  const aiinfra_model *m = gen->batcher->model;
  const char *query = gen->input.query, *document = gen->input.text;
  aiinfra_token end = -1;
  aiinfra_status rc = find_end(m->vocab, out, &end, err);
  if (rc == AIINFRA_OK) rc = aii_tokenize(m->vocab, query, strlen(query), TOKENIZE_BOS, out, err);
  if (rc == AIINFRA_OK && (out->n == 0 || out->items[out->n - 1] != end)) rc = add_token(out, end, err);
  if (rc == AIINFRA_OK && m->head->two_seps) rc = add_token(out, end, err);
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

static aiinfra_status make_prompt(aii_gen *gen, aiinfra_error *err)
{
  if (gen->input.query != NULL) return tokenize_pair(gen, err);
  if (gen->input.text != NULL) return tokenize(gen, gen->input.text, strlen(gen->input.text), TOKENIZE_BOS, err);
  if (gen->input.messages_json != NULL) return tokenize_messages(gen, err);
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

static aiinfra_status make_tools_grammar(aii_gen *gen, aiinfra_error *err)
{
  const char *choice = gen->input.tool_choice != NULL ? gen->input.tool_choice : "auto";
  const char *syntax = gen->batcher->model->tool_syntax;
  if (syntax == NULL && strcmp(choice, "auto") == 0) return AIINFRA_OK; /* the model cannot say that it calls */
  if (syntax == NULL) syntax = fallback_syntax;
  gen->tool_syntax = syntax;
  for (size_t i = 0; i < AII_COUNT(openings); i++)
    if (strcmp(openings[i].syntax, syntax) == 0) aii_stream_set_trigger(&gen->stream, openings[i].opening);
  aiinfra_status rc =
      aii_grammar_from_tools(&gen->batcher->rt->mem, gen->input.tools_json, choice, syntax, &gen->grammar, err);
  return blame(err, rc, "tools_json");
}

static aiinfra_status make_grammar(aii_gen *gen, aiinfra_error *err)
{
  aii_mem *mem = &gen->batcher->rt->mem;
  aiinfra_status rc = AIINFRA_OK;
  if (gen->input.json_schema != NULL) {
    rc = aii_grammar_from_schema(mem, gen->input.json_schema, &gen->grammar, err);
    rc = blame(err, rc, "json_schema");
  } else if (gen->input.tools_json != NULL) {
    rc = make_tools_grammar(gen, err);
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
  aiinfra_status rc = make_prompt(gen, err);
  if (rc == AIINFRA_OK) rc = check_length(gen, err);
  if (rc == AIINFRA_OK && !gen->seq.embed) {
    rc = make_grammar(gen, err);
    if (rc == AIINFRA_OK)
      rc = aii_sampler_create(&gen->batcher->rt->mem, &gen->sampling, gen->batcher->model->hp.n_vocab, &gen->sampler,
                              err);
  }
  if (rc == AIINFRA_OK) aii_stream_start(&gen->stream, gen->batcher->model->vocab, gen->want_special, starts_text(gen));
  aii_gen_drop_input(gen);
  return rc;
}
