/* when.c - dates as RFC 3339 writes them, to microseconds since 1970.
 *
 * Beyond the RFC, as databases of this kind do: the time may be missing (midnight), its seconds too, a blank may stand
 * for the T, and without a zone the time is UTC. Second 60 is the first of the next minute. Anything else is no date.
 */
#include "src/vector/doc.h"

typedef struct reader {
  const char *s;
  size_t n, at;
} reader;

static bool take(reader *r, const char *any)
{
  if (r->at == r->n || r->s[r->at] == '\0' || strchr(any, r->s[r->at]) == NULL) return false;
  r->at++;
  return true;
}

/* Exactly `digits` digits, of a value from..to. */
static bool number(reader *r, int digits, int64_t from, int64_t to, int64_t *value)
{
  *value = 0;
  for (int i = 0; i < digits; i++, r->at++) {
    if (r->at == r->n || r->s[r->at] < '0' || r->s[r->at] > '9') return false;
    *value = *value * 10 + (r->s[r->at] - '0');
  }
  return *value >= from && *value <= to;
}

static bool is_leap(int64_t year)
{
  return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days from 1970-01-01. */
static int64_t day_of(int64_t year, int64_t month, int64_t day)
{
  static const int16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  int64_t y = year - 1; /* leap days of the years 0 to y, year 0 being one */
  int64_t leaps = year > 0 ? y / 4 - y / 100 + y / 400 + 1 : 0;
  return year * 365 + leaps - 719528 + before[month - 1] + (month > 2 && is_leap(year)) + day - 1;
}

static bool date(reader *r, int64_t *days)
{
  static const int8_t length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int64_t year, month, day;
  if (!number(r, 4, 0, 9999, &year) || !take(r, "-") || !number(r, 2, 1, 12, &month) || !take(r, "-")) return false;
  if (!number(r, 2, 1, length[month - 1] + (month == 2 && is_leap(year)), &day)) return false;
  *days = day_of(year, month, day);
  return true;
}

static bool fraction(reader *r, int64_t *us)
{
  int64_t digit, unit = 100000;
  size_t from = r->at;
  for (*us = 0; r->at < r->n && r->s[r->at] >= '0' && r->s[r->at] <= '9'; unit /= 10) {
    (void)number(r, 1, 0, 9, &digit);
    *us += digit * unit;
  }
  return r->at > from;
}

static bool clock_time(reader *r, int64_t *us)
{
  int64_t hour, minute, second = 0, part = 0;
  if (!number(r, 2, 0, 23, &hour) || !take(r, ":") || !number(r, 2, 0, 59, &minute)) return false;
  if (take(r, ":")) {
    if (!number(r, 2, 0, 60, &second)) return false;
    if (take(r, ".") && !fraction(r, &part)) return false;
  }
  *us = ((hour * 60 + minute) * 60 + second) * 1000000 + part;
  return true;
}

static bool zone(reader *r, int64_t *minutes)
{
  int64_t hour, minute = 0, sign = r->at < r->n && r->s[r->at] == '-' ? -1 : 1;
  *minutes = 0;
  if (r->at == r->n || take(r, "Zz")) return true;
  if (!take(r, "+-") || !number(r, 2, 0, 23, &hour)) return false;
  if (r->at < r->n) {
    (void)take(r, ":");
    if (!number(r, 2, 0, 59, &minute)) return false;
  }
  *minutes = sign * (hour * 60 + minute);
  return true;
}

bool aii_time_parse(const char *s, size_t n, int64_t *us)
{
  reader r = {s, n, 0};
  int64_t days, time = 0, offset = 0;
  if (n < 10 || s[4] != '-' || !date(&r, &days)) return false; /* most strings end here */
  if (r.at < n && (!take(&r, "Tt ") || !clock_time(&r, &time) || !zone(&r, &offset))) return false;
  *us = days * 86400000000 + time - offset * 60000000;
  return r.at == n;
}
