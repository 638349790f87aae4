"""Tools: their definitions, requests that need them, their results, and what to say of a result.

Three are the demo's own (calculator, clock, memory_search); the others are made up, with parameters to match.
"""
import json

import words
from facts import ask, fact
from memories import memory
from source import a, cap, past, third

UNKNOWN = "I don't know."


def tool(name, description, properties, required=None):
    schema = {"type": "object", "properties": properties}
    if required is None:
        required = list(properties)
    if required:
        schema["required"] = required
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


CALCULATOR = tool("calculator", "Computes the value of an arithmetic expression.", {"expression": {"type": "string"}})
CLOCK = tool("clock", "Tells the current date and time.", {})
MEMORY_SEARCH = tool("memory_search", "Searches what the user said before.", {"query": {"type": "string"}})


def default_tools(w):
    """The three that demos use; now and then worded otherwise."""
    if w.chance(0.5):
        return [CALCULATOR, CLOCK, MEMORY_SEARCH]
    desc = lambda options: w.pick(options)
    prop = lambda text: {"type": "string", "description": text} if w.chance(0.5) else {"type": "string"}
    c = tool("calculator", desc(["Evaluates an arithmetic expression.", "Calculates.", "Computes an expression.", "Does arithmetic.", "A calculator."]),
             {"expression": prop(w.pick(["The expression to compute.", "An arithmetic expression such as 2 + 3.", "What to compute."]))})
    k = tool("clock", desc(["Returns the current time.", "Tells the time and the date.", "The current date and time.", "A clock."]), {})
    m = tool("memory_search", desc(["Searches the memory.", "Finds remembered facts.", "Looks up what is known about the user.", "Searches long-term memory."]),
             {"query": prop(w.pick(["What to look for.", "The search text.", "A question."]))})
    return [c, k, m]


def ask_calculator(w):
    small, big = lambda: str(w.r.randrange(1, 100)), lambda: str(w.r.randrange(1, 10000))
    num = lambda: w.pick([small, small, big, lambda: "%d.%d" % (w.r.randrange(100), w.r.randrange(1, 100))])()
    x, y, z = num(), num(), num()
    op = w.pick("+-*/")
    e = w.pick(["%s %s %s" % (x, op, y)] * 4 + ["%s %s %s %s %s" % (x, op, y, w.pick("+-*/"), z), "(%s %s %s) %s %s" % (x, op, y, w.pick("*/"), z),
                                               "%s %s (%s %s %s)" % (x, w.pick("*/"), y, w.pick("+-"), z)])
    plain = w.pick(["What is %s?", "What is %s?", "Compute %s.", "Calculate %s.", "How much is %s?", "What's %s?", "Please compute %s.", "%s = ?", "%s", "Can you work out %s?", "Evaluate %s.",
                    "Use the calculator: %s", "What does %s give?"]) % e
    if w.chance(0.3):
        said = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[op]
        e = "%s %s %s" % (x, op, y)
        plain = w.pick(["What is %s?", "How much is %s?", "Compute %s.", "Please calculate %s."]) % ("%s %s %s" % (x, said, y))
    result = w.number() if w.chance(0.7) else "-" + w.number()
    try:
        if w.chance(0.6):
            result = "%.10g" % eval(e)      # our own text, digits and operators only
    except ZeroDivisionError:
        result = "error: division by zero"
    return plain, {"expression": e}, result.replace(",", ""), "%s = %s." % (e, result.replace(",", ""))


def ask_clock(w):
    y, mo, d, h, mi, s = w.r.randrange(2020, 2040), w.r.randrange(1, 13), w.r.randrange(1, 29), w.r.randrange(24), w.r.randrange(60), w.r.randrange(60)
    now = w.pick(["%04d-%02d-%02dT%02d:%02d:%02dZ" % (y, mo, d, h, mi, s), "%04d-%02d-%02d %02d:%02d:%02d" % (y, mo, d, h, mi, s), "%02d:%02d" % (h, mi),
                  "%s, %d %s %d, %02d:%02d" % (w.pick(words.DAY), d, words.MONTH[mo - 1], y, h, mi), "%04d-%02d-%02d %02d:%02d:%02d UTC" % (y, mo, d, h, mi, s)])
    q = w.pick(["What time is it?", "What time is it now?", "What is the time?", "Tell me the time.", "What is the date?", "What is today's date?", "Which day is it?",
                "What day is it today?", "Do you know the time?", "What date is it?", "Please tell me the current time.", "How late is it?", "Current time?", "What year is it?",
                "What's the time?", "What time is it, please?", "Can you tell me what time it is?"])
    result = json.dumps({w.pick(["time", "now", "date"]): now}) if w.chance(0.1) else now
    return q, {}, result, "It is %s." % now


def text_value(w):
    p = w.r.random()
    if p < 0.3:
        return w.pseudo()
    if p < 0.5:
        return w.name()
    if p < 0.65:
        return w.place()
    if p < 0.8:
        return w.word("ADJ") + " " + w.noun()
    if p < 0.9:
        return " ".join(w.noun() for _ in range(w.r.randrange(2, 5)))
    return w.path()


# name, description, request patterns, parameters: (name, how to draw it)
KNOWN = [
    ("get_weather", "Returns the weather of a city.", ["What is the weather in {city}?", "How is the weather in {city}?", "Weather for {city}, please.", "Will it rain in {city}?"], [("city", "place")]),
    ("set_timer", "Sets a timer.", ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Wake me in {minutes} minutes."], [("minutes", "int")]),
    ("translate", "Translates a text into a language.", ['Translate "{text}" into {language}.', 'How do you say "{text}" in {language}?'], [("text", "text"), ("language", "language")]),
    ("send_email", "Sends an email.", ['Send an email to {to} with the subject "{subject}".', 'Write an email to {to} about "{subject}".'], [("to", "name"), ("subject", "text")]),
    ("read_file", "Reads a file.", ["Read the file {path}.", "Show me {path}.", "What is in the file {path}?", "Open {path}."], [("path", "path")]),
    ("search_web", "Searches the web.", ['Search the web for "{query}".', "Search the web for {query}.", "Find {query} on the web."], [("query", "text")]),
    ("play_song", "Plays a song.", ['Play the song "{title}".', 'Play "{title}".'], [("title", "text")]),
    ("create_note", "Creates a note.", ['Make a note: "{text}".', 'Create a note with the text "{text}".'], [("text", "text")]),
    ("book_table", "Books a table in a restaurant.", ["Book a table at {restaurant} for {people} people.", "Reserve a table at {restaurant} for {people}."], [("restaurant", "place"), ("people", "int")]),
    ("get_stock_price", "Returns the price of a stock.", ["What is the stock price of {symbol}?", "How much does the stock {symbol} cost?"], [("symbol", "upper")]),
    ("turn_on_light", "Turns on the light in a room.", ["Turn on the light in the {room}.", "Switch on the {room} light."], [("room", "word")]),
    ("convert", "Converts an amount from one unit to another.", ["Convert {amount} {from} to {to}.", "How much is {amount} {from} in {to}?"], [("amount", "int"), ("from", "word"), ("to", "word")]),
    ("list_files", "Lists the files of a folder.", ["List the files in {folder}.", "Which files are in {folder}?", "Show the folder {folder}."], [("folder", "path")]),
    ("find_person", "Finds a person by name.", ["Find {name}.", "Look up {name}.", "Who is {name}?"], [("name", "name")]),
    ("book_flight", "Books a flight.", ["Book a flight from {from} to {to}.", "I need a flight from {from} to {to}."], [("from", "place"), ("to", "place")]),
]


def draw(w, kind):
    """-> (JSON value, JSON type)."""
    if kind == "int":
        return w.r.randrange(1, w.pick([10, 100, 1000, 100000])), "integer"
    if kind == "number":
        return round(w.r.randrange(1, 1000) + w.r.randrange(1, 100) / 100, 2), "number"
    return {"place": w.place, "name": w.name, "path": w.path, "text": lambda: text_value(w), "word": w.noun, "language": lambda: w.word("LANGUAGE"),
            "upper": lambda: w.pseudo().upper(), "pseudo": w.pseudo}[kind](), "string"


def known_tool(w):
    """-> (tool, a function that makes a request for it: (what the user says, arguments))."""
    name, description, requests, params = w.pick(KNOWN)
    types = {"int": "integer", "number": "number"}
    props = {p: dict({"type": types.get(kind, "string")}, **({"description": cap("the %s." % p)} if w.chance(0.25) else {})) for p, kind in params}

    def request():
        values = {p: draw(w, kind)[0] for p, kind in params}
        return w.pick(requests).format(**values), values
    return tool(name, description, props), request


TOOL_VERB = """get set send create delete find list open close start stop check book order show count move copy rename print
pause reset scan lock unlock approve cancel archive export import measure water feed paint ship repair inspect rate""".split()


def made_tool(w):
    """As known_tool, of made-up verb, noun and parameters."""
    verb, noun = w.pick(TOOL_VERB), w.noun()
    if w.chance(0.3):
        noun = (w.word("ADJ") if w.chance(0.5) else w.noun()) + " " + noun
    params = {}
    for _ in range(w.pick([0, 1, 1, 1, 2, 2, 3])):
        params[w.pick([w.noun, lambda: w.pick(words.HEAD), lambda: w.pick("name id city title user path text room day amount note".split())])()] = \
            w.pick(["int", "number", "pseudo", "pseudo", "name", "place", "text", "path", "enum"])
    params.pop(noun, None)
    props, options = {}, {}
    for p, kind in params.items():
        if kind == "enum":
            options[p] = [w.word("ADJ") for _ in range(w.r.randrange(2, 5))]
            props[p] = {"type": "string", "enum": options[p]}
        else:
            props[p] = {"type": draw(w, kind)[1]}
            if w.chance(0.2):
                props[p]["description"] = "The %s of the %s." % (p, noun)
    name = (verb + "_" + noun).replace(" ", "_")
    if w.chance(0.12):
        name = verb + "".join(cap(x) for x in noun.split())
    elif w.chance(0.1):
        name = "_".join([noun.replace(" ", "_"), verb])
    description = w.pick(["%s the %s." % (cap(third(verb)), noun), "%s %s." % (cap(third(verb)), a(noun)), "%s the %s." % (cap(verb), noun),
                          "%s a given %s." % (cap(third(verb)), noun), "Tool to %s the %s." % (verb, noun)])
    quoted = lambda v: '"%s"' % v if isinstance(v, str) and (" " in v or w.chance(0.2)) else v

    def request():
        values = {p: w.pick(options[p]) if p in options else draw(w, kind)[0] for p, kind in params.items()}
        said = w.pick(["with {p} {v}", "with {p} {v}", "with the {p} {v}", "using {p} {v}", "for {p} {v}", "where {p} is {v}", "{p}: {v}", "{p}={v}"])
        parts = [said.format(p=p, v=quoted(v)) for p, v in values.items()]
        tail = w.pick([" and ", ", "]).join(x if i == 0 or not x.startswith("with") else x[5:] for i, x in enumerate(parts))
        text = "%s %s %s%s" % (verb, w.pick(["the", "the", "the", "a" if noun[0] not in "aeiou" else "an"]), noun, " " + tail if tail else "")
        return cap(w.pick(["%s.", "%s.", "Please %s.", "Can you %s?", "I want to %s.", "Could you %s, please?", "Now %s."]) % text), values
    return tool(name, description, props), request


def tool_result(w):
    """-> (result, answer). A sentence is passed on; a bare value is named; an error is told."""
    p = w.r.random()
    if p < 0.45:
        s = fact(w)[0] if w.chance(0.7) else w.pick(["Done.", "The %s was %s." % (w.noun(), past(w.pick(["open", "close", "start", "create", "delete", "save"]))), "It is %s in %s." % (w.word("ADJ"), w.place())])
        return s, s
    if p < 0.9:
        v = w.pick([w.value, w.number, lambda: w.word("ADJ"), lambda: text_value(w), lambda: json.dumps({w.noun(): w.pick([w.pseudo(), w.r.randrange(1000)]), w.noun(): w.pick([w.pseudo(), True, False])}),
                    lambda: json.dumps({w.noun(): w.r.randrange(1000)}), lambda: w.pick(["ok", "true", "false", "[]"]), lambda: ", ".join(w.noun() for _ in range(3))])()
        return v, "The result is %s." % v
    e = w.pick(["no such %s" % w.noun(), "%s not found" % w.pseudo(), "permission denied", "timeout after %s ms" % w.number(), "the %s is %s" % (w.noun(), w.word("ADJ"))])
    return "error: " + e, "The tool failed: %s." % e


def tool_case(w, own):
    """-> (tool, request, arguments, result, answer); `own` are tools that the conversation offers already."""
    p = w.r.random()
    if own and p < 0.22:
        q, args, result, answer = ask_calculator(w)
        return next(t for t in own if t["function"]["name"] == "calculator"), q, args, result, finish(result, answer)
    if own and p < 0.34:
        q, args, result, answer = ask_clock(w)
        return next(t for t in own if t["function"]["name"] == "clock"), q, args, result, finish(result, answer)
    if own and p < 0.56:
        m = memory(w)
        while "my " not in m[3][0].lower() and " i " not in m[3][0].lower():
            m = memory(w)
        q, query = ask(w, m[3]), None
        query = q
        if w.chance(0.15):
            query = text_value(w)
            q = w.pick(["Search your memory for %s.", "Search the memory for %s.", "Look in your memory for %s."]) % query
        others = [x[0] for x in (memory(w) for _ in range(w.r.randrange(0, 4))) if x[3][0] != m[3][0]]
        if w.chance(0.2):
            found, answer = others, UNKNOWN
        else:
            found, answer = others + [m[0]], m[1]
            w.r.shuffle(found)
        if query != q and answer != UNKNOWN:
            found, answer = [m[0]], m[1]
        result = w.pick(["\n".join(found), "\n".join("- " + f for f in found), json.dumps(found), json.dumps([{"text": f} for f in found])]) if found else w.pick(["", "[]", "nothing found", "no results"])
        if query != q and answer == UNKNOWN:
            result = w.pick(["", "[]", "nothing found", "no results"])
        return next(t for t in own if t["function"]["name"] == "memory_search"), q, {"query": query}, result, answer, m[3][0]
    t, request = known_tool(w) if w.chance(0.3) else made_tool(w)
    q, args = request()
    result, answer = tool_result(w)
    return t, q, args, result, answer, None, request


def once_more(w, case):
    """The same tool, asked for with other arguments."""
    q, args = case[6]()
    return (case[0], q, args) + tool_result(w)


def finish(result, answer):
    return "The tool failed: %s." % result[7:] if result.startswith("error: ") else answer


def offered(w, extra):
    """Random tools that nobody asks for."""
    tools = [made_tool(w)[0] if w.chance(0.7) else known_tool(w)[0] for _ in range(extra)]
    return tools
