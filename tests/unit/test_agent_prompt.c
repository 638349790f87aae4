/* test_agent_prompt.c - the words around the input: the system message, citations, and what counts as a statement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "src/agent/agent.h"

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

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(statements), cmocka_unit_test(no_statements),
                                     cmocka_unit_test(system_message), cmocka_unit_test(citations)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
