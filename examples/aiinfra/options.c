/* options.c - command lines: long and short options, values beside or behind '=', help, and mistakes told kindly. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define MAX_WORD 64

static size_t least(size_t a, size_t b)
{
  return a < b ? a : b;
}

/* Edits between two words, Levenshtein's; long words are far from everything. */
static size_t distance(const char *a, const char *b)
{
  size_t row[MAX_WORD + 1], na = strlen(a), nb = strlen(b);
  if (na > MAX_WORD || nb > MAX_WORD) return MAX_WORD;
  for (size_t j = 0; j <= nb; j++) row[j] = j;
  for (size_t i = 1; i <= na; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= nb; j++) {
      size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = least(substitute, least(row[j], row[j - 1]) + 1);
    }
  }
  return row[nb];
}

const char *cli_nearest(const char *word, const char *const *candidates, int n)
{
  const char *best = NULL;
  size_t best_distance = strlen(word) / 2 + 1; /* more than half of it wrong is another word */
  for (int i = 0; i < n; i++) {
    size_t d = distance(word, candidates[i]);
    if (d >= best_distance) continue;
    best_distance = d;
    best = candidates[i];
  }
  return best;
}

/* ---- help ------------------------------------------------------------------------------------------------------------ */

static void show_help(const cli_command *c)
{
  printf("usage: aiinfra %s %s\n\n%s\n", c->name, c->arguments, c->summary);
  if (c->options[0].name != NULL) printf("\n");
  for (const cli_option *o = c->options; o->name != NULL; o++) {
    char left[MAX_WORD];
    snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter != 0 ? '-' : ' ', o->letter != 0 ? o->letter : ' ',
             o->letter != 0 ? "," : " ", o->name, o->argument != NULL && o->kind != CLI_MAYBE ? " " : "",
             o->argument != NULL ? o->argument : "");
    printf("  %-26s %s\n", left, o->help);
  }
}

/* ---- one option -------------------------------------------------------------------------------------------------------- */

static int unknown(const cli_command *c, const char *word)
{
  const char *names[MAX_WORD], *near;
  char name[MAX_WORD];
  int n = 0;
  for (const cli_option *o = c->options; o->name != NULL && n < MAX_WORD - 1; o++) names[n++] = o->name;
  names[n++] = "help";
  snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
  near = word[1] == '-' ? cli_nearest(name, names, n) : NULL;
  if (near != NULL) return cli_usage(c->name, "unknown option '--%s'; did you mean '--%s'?", name, near);
  return cli_usage(c->name, "unknown option '%.60s'", word);
}

static const cli_option *find(const cli_command *c, const char *word, const char **value)
{
  size_t n;
  *value = NULL;
  if (word[1] != '-') {
    for (const cli_option *o = c->options; o->name != NULL; o++) {
      if (o->letter != 0 && o->letter == word[1] && word[2] == '\0') return o;
    }
    return NULL;
  }
  n = strcspn(word + 2, "=");
  for (const cli_option *o = c->options; o->name != NULL; o++) {
    if (strlen(o->name) != n || strncmp(o->name, word + 2, n) != 0) continue;
    if (word[2 + n] == '=') *value = word + 3 + n;
    return o;
  }
  return NULL;
}

static int bad_number(const cli_command *c, const cli_option *o, const char *value)
{
  return cli_usage(c->name, "--%s is '%.40s', must be %s from %.10g to %.10g", o->name, value,
                   o->kind == CLI_INT ? "a whole number" : "a number", o->least, o->most);
}

static int store(const cli_command *c, const cli_option *o, const char *value)
{
  char *end;
  double real;
  errno = 0;
  switch (o->kind) {
    case CLI_FLAG: *(bool *)o->value = true; return CLI_OK;
    case CLI_TEXT:
    case CLI_MAYBE: *(const char **)o->value = value; return CLI_OK;
    case CLI_INT: {
      long long whole = strtoll(value, &end, 10);
      if (end == value || *end != '\0' || errno != 0 || (double)whole < o->least || (double)whole > o->most)
        return bad_number(c, o, value);
      *(int64_t *)o->value = whole;
      return CLI_OK;
    }
    case CLI_REAL:
      real = strtod(value, &end);
      if (end == value || *end != '\0' || errno != 0 || !(real >= o->least && real <= o->most))
        return bad_number(c, o, value);
      *(double *)o->value = real;
      return CLI_OK;
  }
  return CLI_OK;
}

/* argv[*i] is an option; *i moves over its value. */
static int take(const cli_command *c, int argc, char **argv, int *i)
{
  const char *word = argv[*i], *value;
  const cli_option *o = find(c, word, &value);
  if (o == NULL) return unknown(c, word);
  if (o->kind == CLI_FLAG && value != NULL) return cli_usage(c->name, "--%s takes no value", o->name);
  if (o->kind == CLI_MAYBE && value == NULL) value = "";
  if (o->kind != CLI_FLAG && value == NULL) {
    if (*i + 1 >= argc) return cli_usage(c->name, "%s needs a value: %s", word, o->argument);
    value = argv[++*i];
  }
  return store(c, o, value);
}

bool cli_parse(const cli_command *c, int argc, char **argv, int *n, int *code)
{
  bool only_words = false;
  *n = 0;
  *code = CLI_OK;
  for (int i = 1; i < argc; i++) {
    if (only_words || argv[i][0] != '-' || argv[i][1] == '\0') {
      argv[(*n)++] = argv[i];
    } else if (strcmp(argv[i], "--") == 0) {
      only_words = true;
    } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      show_help(c);
      return false;
    } else if ((*code = take(c, argc, argv, &i)) != CLI_OK) {
      return false;
    }
  }
  if (*n < c->least) *code = cli_usage(c->name, "something is missing: aiinfra %s %s", c->name, c->arguments);
  else if (c->most >= 0 && *n > c->most)
    *code = cli_usage(c->name, "'%.60s' is too much: aiinfra %s %s", argv[c->most], c->name, c->arguments);
  return *code == CLI_OK;
}
