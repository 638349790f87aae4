"""Facts: sentences as documents have them, with the questions that they answer; and passages made of them.

A fact is (sentence, questions, key): the key is the part of the sentence that the questions ask for.
"""
import words
from source import a, cap, past, plural, third


def fact_attribute(w, s=None, attr=None):
    s, at, v = s or w.subject(), attr or w.attribute(), w.value()
    q = ["What is the %s of %s?" % (at, s)] * 3 + [
        "What %s does %s have?" % (at, s), "Which %s does %s have?" % (at, s),
        "Tell me the %s of %s." % (at, s), "What's the %s of %s?" % (at, s),
        "Do you know the %s of %s?" % (at, s), "How is the %s of %s set?" % (at, s)]
    t = ["The %s of %s is %s." % (at, s, v)] * 3 + [
        "%s has %s of %s." % (cap(s), a(at), v), "%s is the %s of %s." % (cap(v), at, s),
        "For %s, the %s is %s." % (s, at, v), "The %s of %s was set to %s." % (at, s, v),
        "%s uses %s of %s." % (cap(s), a(at), v), "The %s for %s is %s." % (at, s, v)]
    if s.startswith("the "):
        q += ["What is the %s %s?" % (s[4:], at), "What is %s's %s?" % (s, at)]
        t += ["The %s %s is %s." % (s[4:], at, v), "The %s %s defaults to %s." % (s[4:], at, v)]
    return w.pick(t), q, v


def fact_default(w):
    at, v = w.attribute().replace("default ", ""), w.value()
    t = ["The default %s is %s.", "The %s defaults to %s.", "By default, the %s is %s.",
         "The %s is %s by default.", "If nothing is set, the %s is %s."]
    q = ["What is the default %s?", "What does the %s default to?", "What is the default of the %s?",
         "Which %s is the default?", "How big is the default %s?"]
    return w.pick(t) % (at, v), [x % at for x in q], v


def fact_verb(w):
    s, v, o = w.subject(), w.pick(words.VERB), w.thing()
    tail, extra = w.pick([
        ("", None), ("", None), (" " + w.pick(["in", "into", "from", "to", "on"]) + " " + w.thing(), "where"),
        (" before %s" % w.thing(), "when"), (" after %s" % w.thing(), "when"),
        (" when %s is %s" % (w.subject(), w.word("ADJ")), "when"),
        (" every %s %s" % (w.number(), w.pick(["seconds", "minutes", "hours", "days"])), "often"),
        (" because %s is %s" % (w.subject(), w.word("ADJ")), "why"),
        (" by %sing %s" % (w.pick(["read", "send", "check", "scan", "count", "sort"]), w.thing()), "how"),
        (" for %s" % w.thing(), None)])
    text = "%s %s %s%s." % (cap(s), third(v), o, tail)
    q = ["What does %s %s%s?" % (s, v, w.pick([tail, ""])), "What %s %s%s?" % (third(v), o, w.pick([tail, ""])),
         "Which part %s %s?" % (third(v), o)]
    key = o
    ask = {"where": "Where", "when": "When", "often": "How often", "why": "Why", "how": "How"}.get(extra)
    if ask and w.chance(0.7):
        q, key = ["%s does %s %s %s?" % (ask, s, v, o)], tail.strip()
    return text, q, key


def fact_returns(w):
    s, code = w.pick(["`%s()`" % w.symbol().strip("()-"), w.subject(), a(w.word("ADJ") + " " + w.noun())]), w.symbol()
    code = code if w.chance(0.5) else "`%s`" % code
    when = w.pick(["", " when %s is %s" % (w.subject(), w.word("ADJ")), " if %s is %s" % (w.subject(), w.word("ADJ")),
                   " on failure", " on success"])
    verb = w.pick(["returns", "returns", "gives", "reports", "raises", "yields"])
    base = verb[:-1]
    form = w.r.randrange(3) if when[:3] in (" wh", " if") else 0
    text = ("%s %s %s%s." % (cap(s), verb, code, when) if form < 2 else
            "%s, %s %s %s." % (cap(when.strip()), s, verb, code))
    q = ["What does %s %s%s?" % (s, base, when), "What does %s %s%s?" % (s, base, when),
         "What is %s by %s%s?" % ({"give": "given"}.get(base, past(base)), s, when), "What happens with %s%s?" % (s, when)]
    if s[:2] in ("a ", "an") and s.count(" ") == 2 and not when:
        _, adj, noun = s.split()
        q += ["What happens when the %s is %s?" % (noun, adj), "What happens if the %s is %s?" % (noun, adj)]
    key = code
    if when[:3] in (" wh", " if") and w.chance(0.4):
        q, key = ["When does %s %s %s?" % (s, base, code)], when.strip()
    return text, q, key


def fact_where(w):
    s, done = w.subject(), w.pick("stored kept written defined found created saved described placed".split())
    p = w.pick(["in `%s`" % w.path(), "in %s" % w.subject(), "at %s" % w.place(), "in %s" % w.place(), "under %s" % w.subject(),
                "on %s" % w.subject(), "in the file `%s`" % w.path()])
    text = w.pick(["%s is %s %s.", "%s is always %s %s.", "%s must be %s %s."]) % (cap(s), done, p)
    return text, ["Where is %s %s?" % (s, done), "Where can I find %s?" % s, "Where is %s?" % s,
                  "In which place is %s %s?" % (s, done)], p


def fact_who(w):
    s, n = w.subject(), w.name()
    v = w.pick([("wrote", "written"), ("built", "built"), ("maintains", "maintained"), ("designed", "designed"),
                ("owns", "owned"), ("found", "found"), ("invented", "invented"), ("painted", "painted"),
                ("repaired", "repaired"), ("reviews", "reviewed"), ("leads", "led"), ("sold", "sold")])
    tail = w.pick(["", "", " " + w.date(), " in " + w.place()])
    was = "is" if v[0].endswith("s") else "was"
    text = w.pick(["%s %s %s%s." % (n, v[0], s, tail), "%s %s %s by %s%s." % (cap(s), was, v[1], n, tail)])
    q, key = ["Who %s %s?" % (v[0], s), "By whom %s %s %s?" % (was, s, v[1]), "Who %s %s?" % (v[0], s)], n
    if w.chance(0.2):
        q, key = ["What did %s do?" % n if was == "was" else "What does %s do?" % n], s
    return text, q, key


def fact_when(w):
    s, d = w.subject(), w.date()
    v = w.pick("released opened founded closed added removed built finished started replaced renamed".split())
    text = w.pick(["%s was %s %s." % (cap(s), v, d), "%s, %s was %s." % (cap(d), s, v)])
    return text, ["When was %s %s?" % (s, v), "When was %s %s?" % (s, v), "On what date was %s %s?" % (s, v),
                  "In which year was %s %s?" % (s, v)], d


def fact_count(w):
    s, n, o = w.subject(), w.number(), plural(w.noun())
    o = o if w.chance(0.6) else w.word("ADJ") + " " + o
    v = w.pick("have hold accept need keep use support contain allow serve".split())
    v3 = "has" if v == "have" else third(v)
    q = ["How many %s does %s %s?" % (o, s, v)] * 3 + ["What number of %s does %s %s?" % (o, s, v)]
    most = w.pick(["", "", "at most ", "at least ", "up to ", "exactly "])
    text = w.pick(["%s %s %s%s %s.", "By default %s %s %s%s %s."]) % (s, v3, most, n, o)
    return cap(text), q, n


def fact_amount(w):
    s, o = w.subject(), w.pick("memory time space energy power disk water money fuel".split())
    n = "%s %s" % (w.number(), w.word("UNIT"))
    v = w.pick("need use take save cost".split())
    return ("%s %s %s of %s." % (cap(s), third(v), n, o),
            ["How much %s does %s %s?" % (o, s, v)] * 2 + ["What amount of %s does %s %s?" % (o, s, v)], n)


def fact_purpose(w):
    s, v, o = w.subject(), w.pick(words.VERB), w.thing()
    tool = w.pick(["`%s`" % w.symbol(), "`%s`" % w.symbol(), s, "`make %s`" % w.noun(), "`%s %s`" % (w.noun(), w.noun())])
    t = ["Use %s to %s %s." % (tool, v, o), "%s is used to %s %s." % (cap(tool), v, o), "Call %s to %s %s." % (tool, v, o),
         "To %s %s, use %s." % (v, o, tool), "To %s %s, run %s." % (v, o, tool), "Run %s to %s %s." % (tool, v, o)]
    if w.chance(0.4):
        return w.pick(t), ["What is %s used for?" % tool, "What does %s do?" % tool, "What is %s for?" % tool], v + " " + o
    return w.pick(t), ["How do I %s %s?" % (v, o), "How can I %s %s?" % (v, o), "What do I use to %s %s?" % (v, o),
                       "What should I run to %s %s?" % (v, o), "How does one %s %s?" % (v, o)], tool


def fact_option(w):
    o, at, s = "`%s`" % w.symbol(), w.attribute(), w.subject()
    kind = w.pick("option flag field function variable parameter key setting command".split())
    v = w.pick("sets changes limits controls shows resets prints doubles".split())
    text = w.pick(["The %s %s %s the %s of %s.", "The %s %s %s the %s of %s.", "The new %s %s %s the %s of %s."]) % (kind, o, v, at, s)
    if w.chance(0.4):
        return text, ["What does %s do?" % o, "What does the %s %s do?" % (kind, o), "What is the %s %s for?" % (kind, o)], at
    return text, ["Which %s %s the %s of %s?" % (kind, v, at, s), "What %s %s the %s of %s?" % (kind, v, at, s),
                  "How do I set the %s of %s?" % (at, s)], o


def fact_definition(w):
    s, n = w.subject(), w.noun()
    n = n if w.chance(0.5) else w.word("ADJ") + " " + n
    tail = w.pick(["that %s %s" % (third(w.pick(words.VERB)), w.thing()), "of %s" % w.thing(), "for %s" % w.thing(), "without %s" % w.thing()])
    return ("%s is %s %s." % (cap(s), a(n), tail),
            ["What is %s?" % s, "What is %s?" % s, "What kind of thing is %s?" % s, "Explain %s." % s, "Tell me about %s." % s], n)


def fact_state(w):
    s, adj, o, v, p = w.subject(), w.word("ADJ"), w.subject(), w.pick(words.VERB), w.thing()
    when = w.pick(["When", "If", "Once", "While"])
    text = w.pick(["%s %s is %s, %s %s %s." % (when, s, adj, o, third(v), p),
                   "%s %s %s %s %s is %s." % (cap(o), third(v), p, when.lower(), s, adj)])
    return text, ["What happens %s %s is %s?" % (when.lower(), s, adj), "What does %s do %s %s is %s?" % (o, when.lower(), s, adj),
                  "What happens when %s is %s?" % (s, adj)], v


def fact_life(w):
    n = w.name()
    form = w.r.randrange(8)
    if form == 0:
        p = w.place()
        return "%s lives in %s." % (n, p), ["Where does %s live?" % n, "In which city does %s live?" % n], p
    if form == 1:
        j = w.word("JOB")
        return "%s works as %s." % (n, a(j)), ["What does %s work as?" % n, "What is %s's job?" % n], j
    if form == 2:
        d = w.date()
        return "%s was born %s." % (n, d), ["When was %s born?" % n], d
    if form == 3:
        x = w.word("LIKE") if w.chance(0.6) else plural(w.noun())
        return "%s likes %s." % (n, x), ["What does %s like?" % n], x
    if form == 4:
        x, c = w.word("FAVOURITE"), w.pick([w.word("COLOUR"), w.pseudo(), w.place()])
        return "%s's favourite %s is %s." % (n, x, c), ["What is %s's favourite %s?" % (n, x), "Which %s does %s like best?" % (x, n)], c
    if form == 5:
        p, c = w.word("PET"), cap(w.pseudo())
        return "%s's %s is called %s." % (n, p, c), ["What is %s's %s called?" % (n, p), "What is the name of %s's %s?" % (n, p)], c
    if form == 6:
        s, c = w.subject(), w.word("COLOUR")
        return "%s is %s." % (cap(s), c), ["What colour is %s?" % s, "Which colour does %s have?" % s], c
    s, d = w.noun(), w.date()
    return "The %s with %s is %s." % (s, n, d), ["When is the %s with %s?" % (s, n)], d


def fact_manual(w):
    """Sentences as manuals of software have them."""
    s, t, n = w.subject(), w.thing(), w.number()
    port = str(w.r.randrange(80, 65000))
    ident, other = "`%s`" % w.symbol(), "`%s`" % w.symbol()
    fmt = ", ".join(w.pseudo().upper() for _ in range(w.r.randrange(1, 4)))
    return w.pick([
        ("%s listens on port %s." % (cap(s), port), ["Which port does %s listen on?" % s, "What port does %s use?" % s,
                                                      "What is the port of %s?" % s], port),
        ("%s listens on port %s by default." % (cap(s), port), ["What is the default port of %s?" % s,
                                                                 "Which port does %s listen on by default?" % s], port),
        ("%s supports %s." % (cap(s), fmt), ["What does %s support?" % s, "Which formats does %s support?" % s], fmt),
        ("%s is written in %s." % (cap(s), cap(w.pseudo())), ["What is %s written in?" % s, "Which language is %s written in?" % s], "written in"),
        ("%s is called from %s." % (cap(s), t), ["Where is %s called from?" % s, "What calls %s?" % s], t),
        ("The caller must release %s with %s." % (s, ident), ["How is %s released?" % s, "Who releases %s?" % s, "What releases %s?" % s], ident),
        ("%s requires %s." % (cap(s), t), ["What does %s require?" % s, "What is required by %s?" % s], t),
        ("%s depends on %s and %s." % (cap(s), ident, t), ["What does %s depend on?" % s], ident),
        ("Set %s to %s to %s %s." % (ident, n, w.pick(words.VERB), t), ["What is %s for?" % ident, "What value does %s need?" % ident], n),
        ("%s never blocks for more than %s ms." % (cap(s), n), ["How long does %s block?" % s, "How long can %s block?" % s], n),
        ("%s replaces %s since version %s." % (cap(s), t, n), ["Since which version does %s replace %s?" % (s, t), "What does %s replace?" % s], n),
        ("%s stays %s until %s is %s." % (cap(s), w.word("ADJ"), t, w.word("ADJ")), ["How long does %s stay so?" % s, "Until when does %s stay so?" % s], t),
        ("%s has no %s." % (cap(s), w.noun()), ["What does %s not have?" % s, "What does %s lack?" % s], "no"),
        ("%s must not be %s." % (cap(s), past(w.pick(["call", "move", "share", "copy", "lock", "use"]))), ["What must not be done with %s?" % s], "not"),
        ("There are %s kinds of %s: %s, %s and %s." % (n, plural(w.noun()), w.pseudo(), w.noun(), w.pseudo()), None, n),
        ("%s is licensed under the %s licence." % (cap(s), cap(w.pseudo())), ["What is the licence of %s?" % s, "Which licence does %s have?" % s,
                                                                        "Under which licence is %s?" % s], "licence"),
        ("%s and %s share %s." % (cap(s), t, w.subject()), ["What do %s and %s share?" % (s, t)], t),
        ("%s means that %s is %s." % (ident, s, w.word("ADJ")), ["What does %s mean?" % ident, "What is the meaning of %s?" % ident], s),
        ("Only %s may %s %s." % (s, w.pick(words.VERB), t), ["Who may touch %s?" % t, "What is allowed with %s?" % t], s),
        ("%s is at most %s %s long." % (cap(s), n, w.word("UNIT")), ["How long is %s?" % s, "How long can %s be?" % s], n),
        ("The first argument of %s is %s." % (ident, other), ["What is the first argument of %s?" % ident], other),
    ])


FACTS = ([fact_attribute] * 6 + [fact_default] * 2 + [fact_verb] * 6 + [fact_returns] * 3 + [fact_where] * 2 + [fact_who] * 2 +
         [fact_when] * 2 + [fact_count] * 3 + [fact_amount] + [fact_purpose] * 4 + [fact_option] * 2 + [fact_definition] * 2 +
         [fact_state] * 2 + [fact_life] * 2 + [fact_manual] * 5)


def tail(w):
    """More of a sentence, which no question asks for."""
    clause = "%s %s %s" % (w.subject(), third(w.pick(words.VERB)), w.thing())
    return w.pick([
        ", as %s shows." % w.subject(), " (see `%s`)." % w.path(), ", not %s." % w.thing(), ", and %s." % clause, ", so that %s." % clause,
        "; %s." % clause, ", but %s." % clause, ", while %s is %s." % (w.subject(), w.word("ADJ")), " unless %s is %s." % (w.subject(), w.word("ADJ")),
        ", which %s %s." % (third(w.pick(words.VERB)), w.thing()), " and %s %s." % (third(w.pick(words.VERB)), w.thing()), ": %s." % clause])


def fact(w):
    while True:
        text, questions, key = w.pick(FACTS)(w)
        if questions:
            break
    if w.chance(0.12):
        lead = w.pick(["Note that ", "In practice ", "On Linux ", "Since version %s " % w.number(), "Today ", "As a rule "])
        text = lead + (text if text[0] == "`" or text.split()[0] not in ("The", "A", "An", "When", "If", "By", "For", "To", "Use", "Run", "Call", "In", "On") else text[0].lower() + text[1:])
    if w.chance(0.15):
        text = text[:-1] + tail(w)
    return text, questions, key


def grid(w):
    """Facts about few subjects and few attributes, crossed: each question has near-identical rivals."""
    ss, ats = [w.subject() for _ in range(w.r.randrange(1, 4))], [w.attribute() for _ in range(w.r.randrange(1, 4))]
    pairs = [(s, at) for s in ss for at in ats]
    w.r.shuffle(pairs)
    return [fact_attribute(w, s, at) for s, at in pairs[:6]]


def ask(w, questions):
    q = w.pick(questions)
    p = w.r.random()
    if p < 0.05:
        q = q[0].lower() + q[1:]
    elif p < 0.08:
        q = q.rstrip("?.")
    elif p < 0.13:
        q = w.pick(["Please tell me: ", "According to the docs, ", "Question: ", "Quick question: ", "Hi! "]) + q[0].lower() + q[1:]
    return q


def passages(w, level):
    """-> (lines, [(questions, answer, key, number)], spare): spare are questions whose facts were left out."""
    n = w.pick([[1, 1, 2], [1, 2, 2, 3], [1, 2, 3, 3, 4], [2, 3, 3, 4, 4, 5], [3, 3, 4, 4, 5]][level])
    per = [2, 3, 4, 6, 11][level]
    facts = grid(w) if w.chance(0.3) else []
    total = sum(w.r.randrange(1, per + 1) for _ in range(n))
    while len(facts) < total + 2:
        facts.append(fact(w))
    w.r.shuffle(facts)
    spare, facts = facts[:2], facts[2:]
    cuts = sorted(w.r.sample(range(1, len(facts)), min(n, len(facts)) - 1))
    if w.chance(0.2):       # sentences without a subject of their own; nothing asks for them
        facts = [f if w.chance(0.85) else (w.pick(["It also %s %s.", "This %s %s.", "Then it %s %s."]) % (third(w.pick(words.VERB)), w.thing()), None, None) for f in facts]
    lines, items = [], []
    for i, (lo, hi) in enumerate(zip([0] + cuts, cuts + [len(facts)]), 1):
        text = [f[0] for f in facts[lo:hi]]
        head = ""
        if w.chance(0.3):
            head = w.pick(["# %s ", "## %s ", "**%s** ", "%s: ", "%s. "]) % cap(w.pick([w.noun(), w.noun() + " " + w.noun(), "the " + w.noun()]))
        bullet = w.chance(0.08)
        body = " - ".join(text) if bullet else " ".join(text)
        lines.append("[%d] (%s) %s" % (i, w.path() if w.chance(0.85) else "docs/%s.md" % w.noun(), head + ("- " if bullet else "") + body))
        items += [(f[1], "%s [%d]" % (f[0], i), f[2], i) for f in facts[lo:hi] if f[1]]
    said = " ".join(lines).lower()
    return lines, items, [s for s in spare if s[0].lower() not in said]
