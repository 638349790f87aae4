"""Memories: what users tell about themselves, and how they later ask for it.

A memory is (as the user says it, as the answer says it, as "the user's ...", questions, key).
"""
from facts import fact_attribute, fact_life, fact_when, fact_where, fact_who
from source import a, cap, plural
import words


def memory(w):
    form = w.r.randrange(14)
    if form in (0, 1, 2):
        n, c = w.word(w.pick(["PET", "PET", "KIN", "THING"])), w.name() if w.chance(0.4) else cap(w.pseudo())
        t, key = "y %s is called %s." % (n, c), c
        q = ["What is my %s called?", "What is my %s called?", "What is the name of my %s?", "What's my %s called?", "How is my %s called?",
             "What is my %s's name?", "Do you remember the name of my %s?", "Who is my %s?", "Do you know what my %s is called?"]
        q = [x % n for x in q]
    elif form == 3:
        n, c = w.word(w.pick(["PET", "KIN", "KIN"])), w.name()
        t, key = "y %s's name is %s." % (n, c), c
        q = [x % n for x in ["What is my %s's name?", "What is my %s called?", "What is the name of my %s?", "Do you remember my %s's name?"]]
    elif form in (4, 5):
        n, c = w.word("FAVOURITE"), w.pick([w.word("COLOUR"), w.pseudo(), w.word("LIKE"), w.name(), w.number()])
        t, key = "y favourite %s is %s." % (n, c), c
        q = [x % n for x in ["What is my favourite %s?", "What is my favourite %s?", "Which %s do I like best?", "Do you remember my favourite %s?", "What's my favourite %s?"]]
    elif form == 6:
        n, at, c = w.word("THING"), w.pick(words.HEAD), w.value()
        t, key = "y %s %s is %s." % (n, at, c), c
        q = [x % (n, at) for x in ["What is my %s %s?", "Do you remember my %s %s?", "What's my %s %s?"]]
    elif form == 7:
        n, c = w.word(w.pick(["KIN", "PET", "THING"])), w.pick([w.place(), w.place(), w.word("COLOUR") + " paper"])
        t, key = "y %s is in %s." % (n, c), c
        q = [x % n for x in ["Where is my %s?", "Do you remember where my %s is?", "In which place is my %s?"]]
    elif form == 8:
        n, c = w.word("KIN"), w.pick([("lives in", "live in", w.place(), "Where does my %s live?"), ("works as", "work as", a(w.word("JOB")), "What does my %s work as?"),
                                      ("likes", "like", w.word("LIKE"), "What does my %s like?")])
        t, key = "y %s %s %s." % (n, c[0], c[2]), c[2]
        q = [c[3] % n]
    elif form == 9:
        c = w.name()
        return ("My name is %s." % c, "Your name is %s." % c, "The user's name is %s." % c, ["What is my name?", "What am I called?", "Do you know my name?", "Who am I?", "What's my name?"], c)
    elif form == 10:
        v = w.pick([("live in", "lives in", w.place(), ["Where do I live?", "In which city do I live?", "Do you remember where I live?"]),
                    ("work as", "works as", a(w.word("JOB")), ["What do I work as?", "What is my job?", "What do I do for work?"]),
                    ("work at", "works at", cap(w.pseudo()), ["Where do I work?", "Which company do I work at?"])])
        return ("I %s %s." % (v[0], v[2]), "You %s %s." % (v[0], v[2]), "The user %s %s." % (v[1], v[2]), v[3], v[2])
    elif form == 11:
        v = w.pick([("like", "likes", w.pick([w.word("LIKE"), plural(w.noun())]), ["What do I like?", "Do you remember what I like?"]),
                    ("speak", "speaks", w.word("LANGUAGE"), ["Which language do I speak?", "What language do I speak?"]),
                    ("play", "plays", w.noun(), ["What do I play?"]),
                    ("drive", "drives", a(w.noun()), ["What do I drive?"]),
                    ("study", "studies", w.pseudo(), ["What do I study?"])])
        return ("I %s %s." % (v[0], v[2]), "You %s %s." % (v[0], v[2]), "The user %s %s." % (v[1], v[2]), v[3], v[2])
    elif form == 12:
        n, p = w.number().split(".")[0], plural(w.word(w.pick(["PET", "KIN", "THING"])))
        return ("I have %s %s." % (n, p), "You have %s %s." % (n, p), "The user has %s %s." % (n, p), ["How many %s do I have?" % p], n)
    else:
        text, q, key = w.pick([fact_life, fact_where, fact_who, fact_attribute, fact_when])(w)
        return text, text, text, q, key
    return "M" + t, "Your" + t[1:], "The user's" + t[1:], q, key


def memories(w, n):
    """-> (items as the memory block shows them, [(questions, answer, key)], spare facts)."""
    facts, seen = [], set()
    while len(facts) < n + 2:
        m = memory(w)
        topic = m[3][0]
        if topic not in seen:
            seen.add(topic)
            facts.append(m)
    own = w.pick([0, 0, 0, 2, None])
    lines = [(m[0] if own == 0 or (own is None and w.chance(0.5)) else m[2]) for m in facts[:n]]
    return lines, [(m[3], m[1], m[4]) for m in facts[:n]], facts[n:]
