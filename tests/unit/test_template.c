/* test_template.c - chat templates render as jinja2 renders them, and hostile ones end with an error soon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/json/json.h"
#include "src/text/text.h"
#include "tests/support/byte_vocab.h"
#include "tests/support/support.h"

static aii_mem mem;

static aiinfra_status render(const char *source, const char *messages, const char *tools, const char *extra,
                             aii_buf *out, aiinfra_error *err)
{
  aii_template *tmpl = NULL;
  aii_template_vars vars = {.messages_json = messages,
                            .tools_json = tools,
                            .extra_json = extra,
                            .bos_token = "<s>",
                            .eos_token = "</s>",
                            .add_generation_prompt = true};
  aiinfra_status rc = aii_template_parse(&mem, source, strlen(source), &tmpl, err);
  if (rc == AIINFRA_OK) rc = aii_template_render(tmpl, &vars, out, err);
  aii_template_free(tmpl);
  return rc;
}

static void expect(const char *source, const char *expected)
{
  aii_buf out;
  aiinfra_error err = {0};
  aii_buf_init(&out, &mem, 0);
  if (render(source, "[{\"role\":\"user\",\"content\":\"Hi\"}]", NULL,
             "{\"n\":3,\"f\":1.5,\"d\":{\"a\":1,\"b\":[true,null]},\"s\":\" x \"}", &out, &err) != AIINFRA_OK) {
    fail_msg("%s: %s", source, err.message);
  }
  assert_string_equal(aii_buf_cstr(&out), expected);
  aii_buf_free(&out);
}

static void language(void **state)
{
  (void)state;
  static const char *const table[][2] = {
      {"{{ 1 + 2 * 3 ** 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }}", "19 3 -4 2 3.5"},
      {"{{ 'a' ~ 1 + 2 }}", NULL},
      {"{{ 'a' ~ 1 ~ none ~ true ~ [1, 'x'] ~ {'k': 1.0} }}", "a1NoneTrue[1, 'x']{'k': 1.0}"},
      {"{{ d | tojson }}|{{ d | tojson(indent=2) }}",
       "{\"a\": 1, \"b\": [true, null]}|{\n  \"a\": 1,\n  \"b\": [\n    true,\n    null\n  ]\n}"},
      {"{{ '<\"\\u00e9\\n' | tojson }}", "\"<\\\"\xC3\xA9\\n\""},
      {"{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% "
       "endfor %}",
       "1/2:1,2/2:3"},
      {"{% for x in [] %}a{% else %}none{% endfor %}", "none"},
      {"{% set ns = namespace(v=0) %}{% for x in range(4) %}{% set ns.v = ns.v + x %}{% endfor %}{{ ns.v }}", "6"},
      {"{% set v = 1 %}{% for x in range(2) %}{% set v = 9 %}{% endfor %}{{ v }}", "1"},
      {"{% macro m(a, b='y') %}[{{ a }}{{ b }}]{% endmacro %}{{ m('x') }}{{ m(b=1, a=2) }}", "[xy][21]"},
      {"{% set t %}a{{ n }}{% endset %}{{ t | upper }}", "A3"},
      {"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
      {"a  {%- if true -%}  b  {%- endif %} c", "ab c"},
      {"{{ 'abcdef'[1:-1] }} {{ [1,2,3][::-1] }} {{ 'abc'[-1] }}", "bcde [3, 2, 1] c"},
      {"{{ s.strip() }}|{{ 'a,b,c'.split(',')[-1] }}|{{ 'x'.startswith('x') }}|{{ 'ab cd'.title() }}",
       "x|c|True|Ab Cd"},
      {"{{ messages[0].role }} {{ messages[0]['content'] }} {{ messages | length }}", "user Hi 1"},
      {"{{ missing is defined }} {{ missing }} {{ missing | default('d') }} {{ none is none }}", "False  d True"},
      {"{{ 'a' in d }} {{ 'z' not in d }} {{ 2 in [1, 2] }} {{ 'b' in 'abc' }}", "True True True True"},
      {"{% for k, v in d.items() %}{{ k }};{% endfor %}{{ d.get('q', 'w') }}", "a;b;w"},
      {"{{ messages | map(attribute='role') | join('-') }} {{ [3,1,2] | sort | list }}", "user [1, 2, 3]"},
      {"{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"},
      {"{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% "
       "endfor %}",
       "013"},
      {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
      {"{{ 'a' if false else 'b' }}{{ 1 < 2 < 3 }}{{ not true or true }}", "bTrueTrue"},
      {"{% filter upper %}ab{% endfilter %}{# gone #}", "AB"},
      {"{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in{% endcall %}", "<in>"},
      {"{{ 0.1 }} {{ 1e20 }} {{ 100000.0 }} {{ 1e-7 }}", "0.1 1e+20 100000.0 1e-07"},
  };
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    if (table[i][1] != NULL) expect(table[i][0], table[i][1]);
  }
}

static void fails(void **state)
{
  (void)state;
  static const char *const table[][2] = {
      {"{{ raise_exception('roles must alternate') }}", "roles must alternate"},
      {"{{ x.y }}", "'x' is undefined"},
      {"{% if %}", "an expression is missing"},
      {"{% for x in y %}", "unexpected end"},
      {"{{ 1 | nofilter }}", "nofilter"},
      {"{% include 'x' %}", "include"},
      {"{{ 'a' + 1 }}", "'+' between string and integer"},
      {"line\n{{ \"open }}", "line 2"},
      {"{{ 9223372036854775807 + 1 }}", "number"},
  };
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    aii_buf out;
    aiinfra_error err = {0};
    aii_buf_init(&out, &mem, 0);
    assert_int_not_equal(render(table[i][0], "[]", NULL, NULL, &out, &err), AIINFRA_OK);
    if (strstr(err.message, table[i][1]) == NULL) fail_msg("%s: \"%s\"", table[i][0], err.message);
    assert_int_equal(out.len, 0);
    aii_buf_free(&out);
  }
}

static void published_cases(void **state)
{
  (void)state;
  const char *path = test_data("chat-templates/template_render_cases.dev.json");
  if (path == NULL) test_skip("no shared data");
  char *text = test_read_file(path, NULL);
  json_t *root, *c;
  size_t i;
  assert_int_equal(aii_json_parse(text, strlen(text), path, 0, &root, NULL), AIINFRA_OK);
  json_t *cases = json_object_get(root, "cases");
  json_array_foreach(cases, i, c)
  {
    if (!json_is_true(json_object_get(c, "supported_with_jinja"))) continue;
    json_t *messages = json_copy(json_object_get(root, "conversation"));
    json_array_extend(messages, json_object_get(c, "extra_conversation"));
    char *list = json_dumps(messages, 0);
    const char *source = json_string_value(json_object_get(c, "template")),
               *name = json_string_value(json_object_get(c, "name"));
    aii_template *tmpl = NULL;
    aii_template_vars vars = {.messages_json = list,
                              .bos_token = json_string_value(json_object_get(c, "bos_token")),
                              .eos_token = json_string_value(json_object_get(c, "eos_token")),
                              .add_generation_prompt = true};
    aii_buf out;
    aiinfra_error err = {0};
    aii_buf_init(&out, &mem, 0);
    if (aii_template_parse(&mem, source, strlen(source), &tmpl, &err) != AIINFRA_OK ||
        aii_template_render(tmpl, &vars, &out, &err) != AIINFRA_OK) {
      fail_msg("%s: %s", name, err.message);
    }
    /* the file took the newline behind a statement as text of its own in templates with CRLF: jinja2 does not */
    const char *expected = json_string_value(json_object_get(c, "expected_jinja"));
    bool crlf = strcmp(name, "OrionStarAI/Orion-14B-Chat") == 0 || strcmp(name, "Phi-3-medium") == 0 ||
                strcmp(name, "yandex/YandexGPT-5-Lite-8B-instruct") == 0;
    if (!crlf && expected != NULL && expected[0] != '\0' && strcmp(aii_buf_cstr(&out), expected) != 0) {
      fail_msg("%s:\n%s\ninstead of\n%s", name, aii_buf_cstr(&out), expected);
    }
    aii_buf_free(&out);
    aii_template_free(tmpl);
    free(list);
    json_decref(messages);
  }
  json_decref(root);
  free(text);
}

/* ---- what jinja2 made, as tests/reference/templates_diff.py wrote it down ------------------------------------------ */

static aiinfra_status render_case(const aii_template *tmpl, const json_t *c, aii_buf *out, aiinfra_error *err)
{
  const char *keys[] = {"messages", "tools", "extra"};
  char *texts[3];
  for (size_t i = 0; i < 3; i++) {
    const json_t *value = json_object_get(c, keys[i]);
    texts[i] = value != NULL && !json_is_null(value) ? json_dumps(value, 0) : NULL;
  }
  aii_template_vars vars = {.messages_json = texts[0],
                            .tools_json = texts[1],
                            .extra_json = texts[2],
                            .bos_token = json_string_value(json_object_get(c, "bos")),
                            .eos_token = json_string_value(json_object_get(c, "eos")),
                            .now_s = json_integer_value(json_object_get(c, "now")),
                            .add_generation_prompt = json_is_true(json_object_get(c, "add_generation_prompt"))};
  aiinfra_status rc = aii_template_render(tmpl, &vars, out, err);
  for (size_t i = 0; i < 3; i++) free(texts[i]);
  return rc;
}

static json_t *goldens(void)
{
  json_t *root;
  char *text = test_read_file(test_path("tests/data/template_cases.json"), NULL);
  assert_int_equal(aii_json_parse(text, strlen(text), "cases", 0, &root, NULL), AIINFRA_OK);
  free(text);
  return root;
}

static void own_snippets(void **state)
{
  (void)state;
  json_t *root = goldens(), *pair;
  size_t i;
  json_array_foreach(json_object_get(root, "snippets"), i, pair)
  {
    const char *source = json_string_value(json_array_get(pair, 0)),
               *expected = json_string_value(json_array_get(pair, 1)); /* NULL: an error */
    aii_template *tmpl = NULL;
    aii_buf out;
    aiinfra_error err = {0};
    aii_buf_init(&out, &mem, 0);
    aiinfra_status rc = aii_template_parse(&mem, source, strlen(source), &tmpl, &err);
    if (rc == AIINFRA_OK) rc = render_case(tmpl, json_object_get(root, "little"), &out, &err);
    if ((rc == AIINFRA_OK) != (expected != NULL)) fail_msg("%s: %s", source, err.message);
    if (expected != NULL) assert_string_equal(aii_buf_cstr(&out), expected);
    aii_buf_free(&out);
    aii_template_free(tmpl);
  }
  json_decref(root);
}

static uint64_t hash_all(const char *source, size_t n, const json_t *cases)
{
  aii_template *tmpl = NULL;
  aiinfra_error err = {0};
  uint64_t hash = 0;
  size_t i;
  json_t *c;
  assert_int_equal(aii_template_parse(&mem, source, n, &tmpl, &err), AIINFRA_OK);
  json_array_foreach(cases, i, c)
  {
    aii_buf out;
    aii_buf_init(&out, &mem, 0);
    bool good = render_case(tmpl, c, &out, &err) == AIINFRA_OK;
    hash = aii_hash64(good ? aii_buf_cstr(&out) : "error", good ? out.len : 5, hash);
    aii_buf_free(&out);
  }
  aii_template_free(tmpl);
  return hash;
}

static void published_templates(void **state)
{
  (void)state;
  if (test_data("chat-templates/llama.cpp") == NULL) test_skip("no shared data");
  json_t *root = goldens(), *expected;
  const char *name;
  json_object_foreach(json_object_get(root, "hashes"), name, expected)
  {
    char path[256], hash[17];
    size_t n = 0;
    snprintf(path, sizeof path, "chat-templates/llama.cpp/%s", name);
    if (test_data(path) == NULL) fail_msg("%s is missing", path);
    char *source = test_read_file(test_data(path), &n);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_all(source, n, json_object_get(root, "cases")));
    if (strcmp(hash, json_string_value(expected)) != 0)
      fail_msg("%s renders otherwise than jinja2; tests/reference/templates_diff.py shows where", name);
    free(source);
  }
  json_decref(root);
}

/* ---- hostile ones ---------------------------------------------------------------------------------------------------- */

/* Whoever measures under a sanitizer measures that. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(SANITIZED)
enum { PATIENCE = 40 };
#else
enum { PATIENCE = 1 };
#endif

static void ends_soon(const char *source)
{
  aii_buf out;
  aiinfra_error err = {0};
  aii_buf_init(&out, &mem, 0);
  clock_t start = clock(); /* of this process: a busy machine does not count */
  assert_int_not_equal(render(source, "[]", NULL, NULL, &out, &err), AIINFRA_OK);
  double ms = (double)(clock() - start) * 1e3 / CLOCKS_PER_SEC;
  if (ms > 50 * PATIENCE) fail_msg("%.60s: %.0f ms", source, ms);
  assert_true(err.message[0] != '\0');
  assert_int_equal(out.len, 0);
  aii_buf_free(&out);
}

static void hostile(void **state)
{
  (void)state;
  for (int i = 0; i < 12; i++) {
    char name[64];
    snprintf(name, sizeof name, "malformed/jinja-hostile/%02d.jinja", i);
    if (test_data(name) == NULL) test_skip("no shared data");
    char *source = test_read_file(test_data(name), NULL);
    ends_soon(source);
    free(source);
  }
}

static void endless(void **state)
{
  (void)state;
#define MANY "{% for i in range(99999) %}{% for j in range(99999) %}"
#define END "{% endfor %}{% endfor %}"
#define BIG "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}"
  static const char *const table[] = {
      MANY END,
      MANY "x" END,
      "{% set ns = namespace(x=0) %}" MANY "{% set ns.x = ns.x + 1 %}" END,
      "{{ 'x' * 2000000000 }}",
      "{% set a = 'x' * 15000000 %}" MANY "{{ a | length }}" END,
      "{% set ns = namespace(x='ab') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x='') %}" MANY "{% set ns.x = ns.x ~ 'abcdefgh' %}" END,
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
      "{% macro m(n) %}{{ caller(n) }}{% endmacro %}{% macro r(n) %}{% call(x) m(n) %}{{ r(x+1) }}{% endcall %}"
      "{% endmacro %}{{ r(0) }}",
      "{% set a = 'a' * 4000 %}" MANY "{{ a | replace('a', 'bb') | length }}" END,
      BIG MANY "{{ b in a }}" END,
      BIG MANY "{{ a.count(b) }}{{ a.find(b) }}" END,
      BIG "{{ a.rfind(b) }}",
      BIG "{{ a.rsplit(b, 3) | length }}{{ a.strip('b' * 500000 ~ 'a') }}",
      BIG MANY "{{ a.isalpha() }}{{ a.title() }}" END,
      MANY "{{ [3, 2, 1] | sort }}{{ range(999) | unique | list | length }}" END,
      "{% set d = dict() %}" MANY "{% set _ = d.update({i ~ j: i}) %}" END,
      "{% set l = range(9999) | list %}" MANY "{{ l | tojson | length }}{{ l | join('abcdef') | length }}" END,
      "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
      "{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
      "{% set l = [] %}{% set _ = l.append(l) %}{% set k = [] %}{% set _ = k.append(k) %}{{ l == k }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set a = 'a\n' * 100000 %}" MANY "{{ a | indent(1000) | length }}" END,
      "{% set a = '<' * 1000000 %}" MANY "{{ a | e | length }}" END,
      MANY "{{ 1.1 ** 300 }}" END,
      MANY "{{ strftime_now('%c%c%c%c%c%c') }}" END,
      "{{ 9 ** 9 ** 9 }}",
      "{{ range(1000000000) | list }}",
  };
  for (size_t i = 0; i < AII_COUNT(table); i++) ends_soon(table[i]);
}

/* begin, then what is said many times, then end */
static void deep(void **state)
{
  (void)state;
  static const char *const table[][3] = {{"{{ ", "(", "1 }}"},
                                         {"{{ ", "[", " }}"},
                                         {"{{ ", "not ", "1 }}"},
                                         {"{{ ", "-", "1 }}"},
                                         {"{{ 1", "+1", " }}"},
                                         {"{{ a", ".a", " }}"},
                                         {"{{ a", "()", " }}"},
                                         {"{{ 1", "|abs", " }}"},
                                         {"", "{% if 1 %}", ""},
                                         {"{{ 1", " < 2", " }}"},
                                         {"{{ ", "1 if 1 else ", "1 }}"},
                                         {"", "{% for a in [1] %}", "{{ a }}"},
                                         {"{% raw %}", "{% ", ""},
                                         {"", "{#", ""},
                                         {"", "{{", ""},
                                         {"{% if 0 %}", "{% elif 0 %}", "{% endif %}{{ x.y }}"}};
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    aii_buf source;
    aii_buf_init(&source, &mem, 0);
    aii_buf_str(&source, table[i][0]);
    while (source.len < 250000) aii_buf_str(&source, table[i][1]);
    aii_buf_str(&source, table[i][2]);
    ends_soon(aii_buf_cstr(&source));
    aii_buf_free(&source);
  }
}

/* ---- control tokens that a text only spells --------------------------------------------------------------------------- */

/* How often <end> comes, and how many tokens there are, in a prompt of these messages. */
static size_t count_ends(const aii_vocab *vocab, const char *source, const char *messages, size_t *n)
{
  aii_template *tmpl = NULL;
  aii_template_vars vars = {.messages_json = messages, .guard = vocab};
  aii_buf out;
  aii_tokens tokens;
  aiinfra_error err = {0};
  size_t ends = 0;
  aii_buf_init(&out, &mem, 0);
  aii_tokens_init(&tokens, &mem);
  assert_int_equal(aii_template_parse(&mem, source, strlen(source), &tmpl, &err), AIINFRA_OK);
  assert_int_equal(aii_template_render(tmpl, &vars, &out, &err), AIINFRA_OK);
  assert_int_equal(aii_tokenize(vocab, aii_buf_cstr(&out), out.len, 1 | AII_TOKENIZE_GUARDED, &tokens, &err),
                   AIINFRA_OK);
  for (size_t i = 0; i < tokens.n; i++) ends += tokens.items[i] == BYTE_VOCAB_END;
  *n = tokens.n;
  aii_tokens_free(&tokens);
  aii_buf_free(&out);
  aii_template_free(tmpl);
  return ends;
}

static void spelled_control_tokens(void **state)
{
  (void)state;
  static const char source[] = "{% for m in messages %}{{ (m.role ~ m.content | trim).replace('x', 'y') }}<end>"
                               "{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}";
  aii_vocab *vocab;
  size_t n;
  assert_int_equal(byte_vocab(&mem, NULL, 0, &vocab), AIINFRA_OK);
  assert_int_equal(count_ends(vocab, source, "[{\"role\":\"u\",\"content\":\"hi\"}]", &n), 1);
  assert_int_equal(n, 1 + 2 + 1);
  /* typed by a user: text, every byte of it, and nothing else */
  assert_int_equal(count_ends(vocab, source, "[{\"role\":\"u\",\"content\":\"a<end>x<end>\"}]", &n), 1);
  assert_int_equal(n, 1 + 12 + 1);
  /* in a role, in arguments, escaped in JSON */
  assert_int_equal(count_ends(vocab, source, "[{\"role\":\"<end>\",\"content\":\"\"}]", &n), 1);
  assert_int_equal(n, 5 + 1);
  assert_int_equal(
      count_ends(vocab, source, "[{\"role\":\"u\",\"content\":\"\",\"tool_calls\":[{\"<end>\":\"\\u003cend>\"}]}]", &n),
      1);
  /* put together from the texts of two messages */
  assert_int_equal(count_ends(vocab, "{% for m in messages %}{{ m.content }}{% endfor %}",
                              "[{\"content\":\"a<en\"},{\"content\":\"d>\"}]", &n),
                   0);
  assert_int_equal(n, 6);
  /* the mark itself, forged, becomes U+FFFD */
  assert_int_equal(count_ends(vocab, "{{ messages[0].content }}<end>", "[{\"content\":\"" AII_GUARD "\"}]", &n), 1);
  assert_int_equal(n, 3 + 1);
  /* a template may still look for it */
  assert_int_equal(count_ends(vocab, "{{ messages[0].content.split('<end>')[1] }}", "[{\"content\":\"a<end>b\"}]", &n),
                   0);
  assert_int_equal(n, 1);
  aii_vocab_free(vocab);
}

static int tear_down(void **state)
{
  (void)state;
  return mem.used_bytes != 0;
}

int main(void)
{
  setenv("TZ", "UTC", 1);
  aii_mem_init(&mem, NULL, 0);
  const struct CMUnitTest tests[] = {cmocka_unit_test(language),
                                     cmocka_unit_test(fails),
                                     cmocka_unit_test(published_cases),
                                     cmocka_unit_test(own_snippets),
                                     cmocka_unit_test(published_templates),
                                     cmocka_unit_test(hostile),
                                     cmocka_unit_test(endless),
                                     cmocka_unit_test(deep),
                                     cmocka_unit_test(spelled_control_tokens)};
  return cmocka_run_group_tests(tests, NULL, tear_down);
}
