/* test_agent_prompt.c - the words around the input: the system message, citations, and what counts as a statement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "aiinfra/memory.h"
#include "src/agent/agent.h"
#include "support/support.h"

static aii_mem mem;

static void keeps(const char *input, const char *expected)
{
  aii_buf out;
  bool kept;
  aii_buf_init(&out, &mem, 0);
  kept = aii_prompt_statement(input, &out);
  if (kept != (expected != NULL)) fail_msg("%s: %s", input, kept ? "kept" : "not kept");
  if (kept) assert_string_equal(aii_buf_cstr(&out), expected);
  aii_buf_free(&out);
}

static void statements(void **state)
{
  (void)state;
  keeps("My cat is called Miso.", "My cat is called Miso.");
  keeps("my name is Ann", "My name is Ann");
  keeps("  I live in Oslo.\n", "I live in Oslo.");
  keeps("I'm a baker.", "I'm a baker.");
  keeps("The user's favourite colour is red.", "The user's favourite colour is red.");
  keeps("Remember that my dog is old.", "My dog is old.");
  keeps("Please remember: the key is under the mat.", "The key is under the mat.");
  keeps("remember my bike is blue", "My bike is blue");
  keeps("Note that I like tea.", "I like tea.");
  keeps("Don't forget: Ann is my sister.", "Ann is my sister.");
}

static void no_statements(void **state)
{
  char text[600];
  (void)state;
  keeps("", NULL);
  keeps("What is my cat called?", NULL);
  keeps("My cat is called Miso?", NULL);
  keeps("I want to know the port.", NULL);
  keeps("I'd like some tea.", NULL);
  keeps("I need help.", NULL);
  keeps("My question is simple.", NULL);
  keeps("I", NULL);
  keeps("Mystery novels are long.", NULL);
  keeps("Is it cold?", NULL);
  keeps("Remember to call Ann.", NULL);
  keeps("Remember that", NULL);
  keeps("remember", NULL);
  keeps("I have this code:\nint x;", NULL);
  keeps("Compute 17 * 23.", NULL);
  memset(text, 'y', sizeof text - 1);
  memcpy(text, "My ", 3);
  text[sizeof text - 1] = '\0';
  keeps(text, NULL);
}

static void system_message(void **state)
{
  json_t *passages = json_loads("[{\"source\": \"/home/ann/docs/a.md\", \"text\": \" one\\n\\n two \"}, {\"source\": "
                                "\"b.md\", \"text\": \"three\"}]",
                                0, NULL);
  json_t *facts = json_loads("[{\"text\": \"My cat\\nis Miso.\"}]", 0, NULL);
  json_t *blocks = json_loads("{\"project\": \"a boat\"}", 0, NULL), *none = json_array(), *empty = json_object();
  aii_buf out;
  (void)state;
  aii_buf_init(&out, &mem, 0);
  aii_prompt_system(&out, "Be kind.", passages, facts, blocks);
  assert_string_equal(aii_buf_cstr(&out), "Be kind.\n\nPassages:\n[1] (docs/a.md) one two\n[2] (b.md) three\n\n"
                                          "Memory:\n- project: a boat\n- My cat is Miso.");
  aii_buf_clear(&out);
  aii_prompt_system(&out, "Be kind.", none, none, empty);
  assert_string_equal(aii_buf_cstr(&out), "Be kind.");
  aii_buf_free(&out);
  json_decref(passages), json_decref(facts), json_decref(blocks), json_decref(none), json_decref(empty);
}

static void citations(void **state)
{
  json_t *passages = json_loads("[{\"n\": 1, \"source\": \"a\", \"first_byte\": 0, \"n_bytes\": 5, \"text\": \"\"}, "
                                "{\"n\": 2, \"source\": \"b\", \"first_byte\": 7, \"n_bytes\": 9, \"text\": \"\"}]",
                                0, NULL);
  json_t *found = aii_prompt_citations("So [2]. And [2], [1]; not [3], [0], [x], [12345678901], [", passages);
  json_t *expected = json_loads("[{\"n\": 2, \"source\": \"b\", \"first_byte\": 7, \"n_bytes\": 9}, {\"n\": 1, "
                                "\"source\": \"a\", \"first_byte\": 0, \"n_bytes\": 5}]",
                                0, NULL);
  (void)state;
  assert_true(json_equal(found, expected));
  json_decref(passages), json_decref(found), json_decref(expected);
}

/* ---- passages within a budget ------------------------------------------------------------------------------------ */

static json_t *recalled(aiinfra_db *db, const aii_recall *r)
{
  aii_events events = {0};
  aiinfra_error err;
  if (aii_recall_run(db, r, &events, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(events.n, 1);
  json_t *body = json_incref(events.items[0].body);
  aii_events_free(&events, &db->rt->mem);
  return body;
}

static const json_t *passage(const json_t *body, size_t i)
{
  return json_array_get(json_object_get(body, "passages"), i);
}

/* Three paragraphs of one file, each a passage, and one of them again in another file. */
static void write_documents(char first[600], char second[600])
{
  static const char again[] = "The ferry to the island leaves at nine in the morning and takes two hours.\n";
  static const char text[] =
      "The ferry to the island leaves at nine in the morning and takes two hours.\n\n"
      "The ferry carries forty cars, and on the island the road is closed to lorries.\n\n"
      "A ticket for the ferry costs twelve crowns; children below six travel to the island free.\n";
  snprintf(first, 600, "%s", test_tmp("ferry.txt"));
  snprintf(second, 600, "%s", test_tmp("again.txt"));
  assert_int_equal(test_write_file(first, text, sizeof text - 1), 0);
  assert_int_equal(test_write_file(second, again, sizeof again - 1), 0);
}

static void packed_passages(void **state)
{
  char first[600], second[600];
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_memory *memory;
  aiinfra_error err;
  aiinfra_ingest_opts ingest = AIINFRA_INGEST_OPTS_INIT;
  (void)state;
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_open(rt, ":memory:", NULL, &db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_open(db, NULL, &memory, &err), AIINFRA_OK);
  write_documents(first, second);
  ingest.size = 100;
  const char *const paths[] = {first, second};
  assert_int_equal(aiinfra_memory_ingest_files(memory, paths, 2, &ingest, NULL, &err), AIINFRA_OK);
  aii_recall r = {.memory = memory, .instructions = "Be kind.", .input = "When does the ferry to the island leave?"};
  r.k = 20;
  r.max_bytes = 10000;
  r.search = true;
  json_t *apart = recalled(db, &r);
  assert_int_equal(json_array_size(json_object_get(apart, "passages")), 4); /* the same sentence twice */
  r.budget_tokens = 400;
  json_t *together = recalled(db, &r);
  assert_int_equal(json_array_size(json_object_get(together, "passages")), 1);
  const char *text = json_string_value(json_object_get(passage(together, 0), "text"));
  assert_non_null(strstr(text, "nine in the morning"));
  assert_non_null(strstr(text, "forty cars"));
  assert_non_null(strstr(text, "twelve crowns"));
  assert_int_equal(json_integer_value(json_object_get(passage(together, 0), "n")), 1);
  assert_int_equal(json_integer_value(json_object_get(passage(together, 0), "first_byte")), 0);
  assert_true(json_integer_value(json_object_get(passage(together, 0), "n_bytes")) > 200);
  const char *system = json_string_value(json_object_get(together, "system")), *line = strstr(system, "\n[1] (");
  assert_non_null(strstr(system, "Be kind.\n\nPassages:\n[1] ("));
  assert_true(line != NULL && strchr(line + 1, '\n') == NULL); /* a passage is one line */
  r.budget_tokens = 55;
  json_t *less = recalled(db, &r);
  assert_int_equal(json_array_size(json_object_get(less, "passages")), 1);
  assert_non_null(strstr(json_string_value(json_object_get(passage(less, 0), "text")), "nine in the morning"));
  assert_true(strlen(json_string_value(json_object_get(passage(less, 0), "text"))) < strlen(text));
  json_decref(apart), json_decref(together), json_decref(less);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(statements), cmocka_unit_test(no_statements),
                                     cmocka_unit_test(system_message), cmocka_unit_test(citations),
                                     cmocka_unit_test(packed_passages)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
