"""A seeded stream of words, names, numbers and noun phrases, for the generator's sentences.

A Source draws either from the training half of the inventories or from the held-out half, pseudo-words
included, and never from both.
"""
import random

import words

ONSET = "b c d f g h j k l m n p r s t v w z br cr dr fl gr kl pl pr sk st tr th sh ch qu bl sp".split()
VOWEL = "a e i o u a e i o ai ou ee".split()
COMMON = set("the and for not this that what who how why when with was are has had his her she they then than them".split())
COINED = ("TECH", "PLAIN", "ADJ")   # kinds of which training also sees words that nobody knows: held-out words are such
CODA = "n r l s t m k x p d nd rt st ng th ck".split() + [""] * 12


def cap(text):
    return text[:1].upper() + text[1:]


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def third(verb):
    """returns, pushes, carries."""
    if verb.endswith(("s", "sh", "ch", "x")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def past(verb):
    """The regular participle; irregular verbs are not asked for one."""
    return verb + "d" if verb.endswith("e") else verb + "ed"


def plural(noun):
    return third(noun)


class Source:
    """A seeded stream of words, names, numbers and noun phrases from one half of the inventories."""

    def __init__(self, seed, evaluate=False):
        self.r = random.Random(seed)
        self.evaluate = evaluate
        self.lists = {}

    def chance(self, p):
        return self.r.random() < p

    def pick(self, options):
        return options[int(self.r.random() * len(options))]

    def word(self, kind):
        if not self.evaluate and kind in COINED and self.chance(0.5):
            return self.pseudo()
        mine = self.lists.get(kind)
        if mine is None:
            mine = [w for w in getattr(words, kind) if words.held_out(w) == self.evaluate]
            self.lists[kind] = mine
        return self.pick(mine)

    def pseudo(self):
        while True:
            if self.chance(0.4):
                w = self.altered()
            else:
                w = "".join(self.pick(ONSET) + self.pick(VOWEL) + self.pick(CODA) for _ in range(self.pick([1, 2, 2, 2, 3])))
            if len(w) > 2 and w not in COMMON and words.held_out(w) == self.evaluate:
                return w

    def altered(self):
        """A word with a letter changed, or the front of one and the back of another: letters as real words have them."""
        one, other = (self.word(self.pick(["TECH", "PLAIN", "ADJ"])) for _ in range(2))
        i = self.r.randrange(len(one))
        if self.chance(0.5):
            return one[:i] + other[self.r.randrange(len(other)):]
        return one[:i] + self.pick("abcdefghijklmnopqrstuvwxyz") + one[i + 1:]

    def noun(self):
        p = self.r.random()
        return self.word("TECH") if p < 0.55 else self.word("PLAIN") if p < 0.8 else self.pseudo()

    def name(self):
        first = self.word("NAME") if self.chance(0.5) else cap(self.pseudo())
        if self.chance(0.4):
            first += " " + (self.word("SURNAME") if self.chance(0.5) else cap(self.pseudo()))
        return first

    def place(self):
        return self.word("PLACE") if self.chance(0.4) else cap(self.pseudo())

    def number(self):
        p = self.r.random()
        if p < 0.3:
            return str(self.r.randrange(2, 100))
        if p < 0.5:
            return str(2 ** self.r.randrange(2, 17))
        if p < 0.7:
            return str(self.r.randrange(100, 10000))
        if p < 0.8:
            return "%d,%03d" % (self.r.randrange(1, 100), self.r.randrange(1000))
        if p < 0.9:
            return "%d.%d" % (self.r.randrange(100), self.r.randrange(1, 100))
        return str(self.r.randrange(10000, 10000000))

    def symbol(self):
        """An identifier as code has it."""
        parts = [self.noun() for _ in range(self.pick([2, 2, 3]))]
        p = self.r.random()
        if p < 0.35:
            return "_".join(parts)
        if p < 0.5:
            return "_".join(parts) + "()"
        if p < 0.7:
            return "_".join(parts).upper()
        if p < 0.8:
            return "E" + self.noun().upper()
        if p < 0.9:
            return "--" + "-".join(parts[:2])
        return parts[0] + "." + parts[1]

    def path(self):
        ext = self.pick(["md", "c", "h", "py", "json", "txt", "conf", "db", "gguf", "log", "toml", "sh"])
        dirs = [self.noun() for _ in range(self.pick([0, 1, 1, 2]))]
        name = self.noun() + (self.pick("-_") + self.noun() if self.chance(0.4) else "")
        return ("/" if self.chance(0.3) else "") + "/".join(dirs + [name + "." + ext])

    def value(self):
        p = self.r.random()
        if p < 0.5:
            return self.number() + (" " + self.word("UNIT") if self.chance(0.6) else "")
        if p < 0.6:
            return "`%s`" % self.symbol()
        if p < 0.7:
            return "`%s`" % self.path()
        if p < 0.8:
            return self.word("COLOUR") if self.chance(0.4) else self.word("ADJ")
        if p < 0.9:
            return self.pseudo()
        return cap(self.pseudo())

    def attribute(self):
        head = self.pick(words.HEAD)
        p = self.r.random()
        if p < 0.3:
            return head
        if p < 0.5:
            return self.pick(["default", "maximum", "minimum", "total", "initial"]) + " " + head
        return (self.noun() if p < 0.85 else self.word("ADJ")) + " " + head

    def thing(self):
        """A noun phrase that can be a sentence's subject or object."""
        p = self.r.random()
        if p < 0.26:
            return self.pick(["the ", "the ", "the ", "a "]) + self.noun()
        if p < 0.46:
            return "the %s %s" % (self.word("ADJ"), self.noun())
        if p < 0.66:
            return "the %s %s" % (self.noun(), self.noun())
        if p < 0.74:
            return "the %s of the %s" % (self.noun(), self.noun())
        if p < 0.84:
            return cap(self.pseudo())
        if p < 0.9:
            return "`%s`" % self.symbol()
        if p < 0.95:
            return "%s %s" % (self.word("ADJ"), plural(self.noun()))
        return "%s's %s" % (self.name(), self.noun())

    def subject(self):
        """A thing in the singular."""
        while True:
            t = self.thing()
            if not t.split()[-1].endswith("s") or t[0] == "`":
                return t if t[:2] != "a " else a(t[2:])

    def date(self):
        form = self.r.randrange(4)
        year, month, day = self.r.randrange(1700, 2040), self.pick(words.MONTH), self.r.randrange(1, 29)
        if form == 0:
            return "in %d" % year
        if form == 1:
            return "in %s %d" % (month, year)
        if form == 2:
            return "on %d %s %d" % (day, month, year)
        return "on " + self.pick(words.DAY)
