/* text.c - files, texts and tokens as the commands read and show them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static char *read_all(FILE *file, size_t *n)
{
  size_t cap = 1 << 16;
  char *text = malloc(cap), *grown;
  *n = 0;
  while (text != NULL) {
    *n += fread(text + *n, 1, cap - 1 - *n, file);
    text[*n] = '\0';
    if (*n < cap - 1) return text;
    cap *= 2;
    grown = realloc(text, cap);
    if (grown == NULL) free(text);
    text = grown;
  }
  return NULL;
}

char *cli_read_file(const char *path, size_t *n)
{
  FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
  char *text = NULL;
  if (file == NULL) {
    cli_fail("%s: %s", path, strerror(errno));
    return NULL;
  }
  text = read_all(file, n);
  if (text == NULL) {
    cli_fail("%s: out of memory", path);
  } else if (ferror(file)) {
    cli_fail("%s: %s", path, strerror(errno));
    free(text);
    text = NULL;
  }
  if (file != stdin) fclose(file);
  return text;
}

/* Hardly any text has more tokens than bytes: the second try is for those. */
aiinfra_token *cli_tokenize(const aiinfra_model *model, const char *text, size_t n_bytes, uint32_t flags, size_t *n)
{
  aiinfra_error err;
  aiinfra_status rc = AIINFRA_ENOSPC;
  aiinfra_token *tokens = NULL;
  *n = n_bytes + 2;
  for (int tries = 0; tries < 2 && rc == AIINFRA_ENOSPC; tries++) {
    size_t cap = *n;
    free(tokens);
    tokens = malloc(cap * sizeof *tokens);
    if (tokens == NULL) {
      cli_fail("out of memory");
      return NULL;
    }
    rc = aiinfra_model_tokenize(model, text, n_bytes, flags, tokens, cap, n, &err);
  }
  if (rc == AIINFRA_OK) return tokens;
  cli_error("tokenize", &err);
  free(tokens);
  return NULL;
}

aiinfra_token *cli_parse_tokens(const char *command, const char *list, size_t *n)
{
  aiinfra_token *tokens = malloc((strlen(list) / 2 + 1) * sizeof *tokens);
  char *end;
  *n = 0;
  if (tokens == NULL) {
    cli_fail("out of memory");
    return NULL;
  }
  for (;;) {
    long value;
    errno = 0;
    value = strtol(list, &end, 10);
    if (end == list || errno != 0 || value < 0 || value > INT32_MAX || (*end != ',' && *end != '\0')) {
      cli_usage(command, "--tokens: '%.20s' is no list of numbers such as 1,2,3", list);
      free(tokens);
      return NULL;
    }
    tokens[(*n)++] = (aiinfra_token)value;
    if (*end == '\0') return tokens;
    list = end + 1;
  }
}

/* The bytes of a token inside a text: at the start of one, some vocabularies drop a space. So it is asked for as the second
 * of two. free *text with aiinfra_string_free(). */
static int token_text(const aiinfra_model *model, aiinfra_token token, char **text, const char **piece, size_t *n)
{
  const aiinfra_token twice[2] = {token, token};
  aiinfra_error err;
  size_t n_first = 0, n_both = 0;
  char *first = NULL;
  *text = NULL;
  if (aiinfra_model_detokenize(model, twice, 1, 1, &first, &n_first, &err) != AIINFRA_OK ||
      aiinfra_model_detokenize(model, twice, 2, 1, text, &n_both, &err) != AIINFRA_OK) {
    aiinfra_string_free(first);
    return cli_error("token", &err);
  }
  aiinfra_string_free(first);
  *piece = *text + n_first;
  *n = n_both - n_first;
  return CLI_OK;
}

int cli_print_token(const aiinfra_model *model, aiinfra_token token)
{
  char *text;
  const char *piece;
  size_t n;
  if (token_text(model, token, &text, &piece, &n) != CLI_OK) return CLI_FAILED;
  putchar('"');
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)piece[i];
    if (c == '\n') printf("\\n");
    else if (c == '"' || c == '\\') printf("\\%c", c);
    else if (c < 0x20 || c == 0x7f || (c >= 0x80 && n < 2)) /* half of a character */ printf("\\x%02x", c);
    else putchar(c);
  }
  putchar('"');
  aiinfra_string_free(text);
  return CLI_OK;
}

json_t *cli_token_json(const aiinfra_model *model, aiinfra_token token)
{
  char *text;
  const char *piece;
  size_t n;
  json_t *object = json_object(), *bytes, *value;
  if (token_text(model, token, &text, &piece, &n) != CLI_OK) {
    json_decref(object);
    return NULL;
  }
  json_object_set_new(object, "id", json_integer(token));
  value = json_stringn(piece, n);
  json_object_set_new(object, "text", value != NULL ? value : json_null());
  if (value == NULL) {
    bytes = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(bytes, json_integer((unsigned char)piece[i]));
    json_object_set_new(object, "bytes", bytes);
  }
  aiinfra_string_free(text);
  return object;
}

int cli_print_json(json_t *value, size_t flags)
{
  int bad = value == NULL || json_dumpf(value, stdout, flags | JSON_ENCODE_ANY) != 0;
  if (!bad) printf("\n");
  json_decref(value);
  return bad || fflush(stdout) != 0 ? cli_fail("cannot write the result, or out of memory") : CLI_OK;
}
