"""Writes cache_pairs.tsv: pairs of questions that look alike and mean different things, and pairs that mean the same.

500 of each, one a line: "different" or "same", what tells them apart or how they were reworded, and the two questions.
All of it was written for this project: LOOKALIKES and PARAPHRASES by hand, the rest from the templates below.
"""
import itertools
import os
import random

LOOKALIKES = """
negation|Is it safe to eat raw eggs?|Is it not safe to eat raw eggs?
negation|Why does my phone charge slowly?|Why doesn't my phone charge slowly?
negation|Which countries have signed the treaty?|Which countries have not signed the treaty?
negation|How do I enable two-factor login?|How do I disable two-factor login?
negation|What foods contain gluten?|What foods do not contain gluten?
negation|Can I drive with this medicine?|Can't I drive with this medicine?
negation|What happens if I pay my taxes late?|What happens if I never pay my taxes late?
negation|Are tomatoes poisonous to dogs?|Are tomatoes non-poisonous to dogs?
negation|How do I open a port on the firewall?|How do I close a port on the firewall?
negation|How can I allow cookies in my browser?|How can I block cookies in my browser?
negation|Is it legal to collect rainwater?|Is it illegal to collect rainwater?
negation|What should I say in a job interview?|What shouldn't I say in a job interview?
negation|How do I travel with a visa?|How do I travel without a visa?
negation|Who agreed with the proposal?|Who disagreed with the proposal?
negation|How do I turn on dark mode?|How do I turn off dark mode?
negation|Which plants need sun?|Which plants need no sun?
negation|What is a lossless format?|What is a lossy format?
negation|How do I increase the volume?|How do I decrease the volume?
negation|What are the advantages of solar power?|What are the disadvantages of solar power?
negation|How do I mount a drive?|How do I unmount a drive?
negation|Is this sentence true?|Is this sentence false?
negation|How do I lock my screen?|How do I unlock my screen?
negation|When should I call a doctor?|When should I not call a doctor?
negation|How do I install Docker?|How do I uninstall Docker?
negation|What is hypertension?|What is hypotension?
negation|Can cats see in the dark?|Can cats not see in the dark?
negation|Do any birds hibernate?|Do no birds hibernate?
negation|How do I follow a topic?|How do I unfollow a topic?
negation|What makes people happy?|What makes people unhappy?
negation|Is everyone invited?|Is no one invited?
negation|Which animals can fly?|Which animals cannot fly?
negation|How do I encrypt a file?|How do I decrypt a file?
negation|How do I subscribe to the newsletter?|How do I unsubscribe from the newsletter?
negation|Does the warranty cover water damage?|Does the warranty exclude water damage?
negation|How do I accept an invitation?|How do I decline an invitation?
number|How many days are there in 2023?|How many days are there in 2024?
number|What is 15 percent of 80?|What is 50 percent of 80?
number|What is 5 - 3?|What is 5 + 3?
number|Convert 10 miles to km|Convert 100 miles to km
number|What is the square root of 16?|What is the square root of 61?
number|How do I cook rice for two people?|How do I cook rice for twelve people?
number|What is 5!?|What is 5?
number|Is 1.5 larger than 2?|Is 15 larger than 2?
number|What was the score in the 1st half?|What was the score in the 2nd half?
number|What are 3 facts about Mars?|What are 5 facts about Mars?
number|What does HTTP status 401 mean?|What does HTTP status 403 mean?
number|Translate page 12|Translate page 21
number|How do I upgrade from version 1 to 2?|How do I upgrade from version 2 to 1?
number|What is 2/3 as a decimal?|What is 2.3 as a decimal?
number|What is -5 squared?|What is 5 squared?
number|What happened in 1918?|What happened in 1981?
number|Is 7 < 8?|Is 7 > 8?
number|What is 1,000 plus 1?|What is 10,000 plus 1?
number|How much is $50 in yen?|How much is €50 in yen?
number|Who was the second president?|Who was the third president?
number|What is chapter VI about?|What is chapter IV about?
number|What is 20% of 300?|What is 20 of 300?
number|How long is a half marathon?|How long is a marathon?
number|How many grams are in a kilogram?|How many milligrams are in a kilogram?
number|What is 1e3?|What is 1e-3?
order|Did Germany invade Poland?|Did Poland invade Germany?
order|Is a dog bigger than a cat?|Is a cat bigger than a dog?
order|How do I convert PDF to Word?|How do I convert Word to PDF?
order|What is the flight time from Paris to London?|What is the flight time from London to Paris?
order|Who lent money to Bob, Alice or Carol?|Who lent Alice money, Bob or Carol?
order|Does smoking cause stress?|Does stress cause smoking?
order|Can a lion beat a tiger?|Can a tiger beat a lion?
order|How do I subtract 5 from x?|How do I subtract x from 5?
order|Why do cats chase dogs?|Why do dogs chase cats?
order|What happens when an oil company buys a gas company?|What happens when a gas company buys an oil company?
order|Should I wash before shaving?|Should I shave before washing?
order|How do I move files from the laptop to the phone?|How do I move files from the phone to the laptop?
order|Is the wife of the brother of Tom rich?|Is the brother of the wife of Tom rich?
order|Who is the manager of the friend of the owner?|Who is the manager of the owner of the friend?
order|Is the box on the table in the room?|Is the table on the box in the room?
order|Does rain follow wind?|Does wind follow rain?
order|How many euros is a dollar?|How many dollars is a euro?
order|Translate "cat" from English to French|Translate "cat" from French to English
order|Who did Mary hit?|Who hit Mary?
order|What eats foxes?|What do foxes eat?
order|Who does Ann love?|Who loves Ann?
order|Was the teacher taught by the student?|Was the student taught by the teacher?
order|Can I run Linux inside Windows?|Can I run Windows inside Linux?
order|What is 10 divided by 2?|What is 2 divided by 10?
order|Is not smoking healthy?|Is smoking not healthy?
order|How do I import Python modules into C?|How do I import C modules into Python?
order|How do I change my name to John from Bob?|How do I change my name to Bob from John?
order|Which dog did the man bite?|Which man did the dog bite?
order|Is it cheaper to fly than to drive?|Is it cheaper to drive than to fly?
order|How do I sort by date then name?|How do I sort by name then date?
entity|What is the capital of Australia?|What is the capital of Austria?
entity|How old is Mick Jagger?|How old is Keith Richards?
entity|How do I install Java?|How do I install JavaScript?
entity|What is the symbol for sodium?|What is the symbol for potassium?
entity|How do I sort a list in Python?|How do I sort a list in Ruby?
entity|How do I compile C code?|How do I compile C++ code?
entity|How do I write a class in C#?|How do I write a class in C++?
entity|How do I stop it?|How do I stop IT?
entity|How big is the US?|How big is us?
entity|Who makes Polish sausages?|Who makes polish sausages?
entity|What grows in Turkey?|What grows in turkey?
entity|What is the population of Guinea?|What is the population of Guinea-Bissau?
entity|What is the tallest mountain in Nepal?|What is the tallest mountain in India?
entity|Where is the Amazon river?|Where is the Amazon office?
entity|What is Node.js?|What is Next.js?
entity|Who wrote Emma?|Who wrote Persuasion?
entity|What does the word "affect" mean?|What does the word "effect" mean?
entity|What does "principal" mean?|What does "principle" mean?
entity|When is Easter in Greece?|When is Easter in Italy?
entity|What currency does Sweden use?|What currency does Switzerland use?
entity|What is the time zone of Dublin?|What is the time zone of Berlin?
entity|Is Slovakia in the EU?|Is Slovenia in the EU?
entity|How do I reset an iPhone?|How do I reset an iPad?
entity|What is HTTP?|What is HTTPS?
entity|How do I delete a git branch?|How do I delete a git tag?
entity|Who discovered penicillin?|Who discovered radium?
entity|What is vitamin B12?|What is vitamin D?
entity|How do I get to Newcastle?|How do I get to New Castle?
entity|What is IPv4?|What is IPv6?
entity|How do I spell Stephen?|How do I spell Steven?
time|What was the price of gold?|What is the price of gold?
time|Who is the president of France?|Who was the president of France?
time|Will it rain on Monday?|Will it rain on Tuesday?
time|Did the shop open at 9 am?|Did the shop open at 9 pm?
time|What is open today?|What is open tomorrow?
time|What happened last week?|What will happen next week?
time|What did Apple release last year?|What did Apple release this year?
time|Is the museum closed in summer?|Is the museum closed in winter?
time|Who won the cup in March?|Who won the cup in May?
time|Does the library open in the morning?|Does the library open in the evening?
time|How do I book a table for tonight?|How do I book a table for tomorrow?
time|What time does the train leave?|What time did the train leave?
time|Are there trains before noon?|Are there trains after noon?
time|How was the weather in London?|How is the weather in London?
time|Do I take the pill before meals?|Do I take the pill after meals?
time|What are the rules since 2020?|What are the rules until 2020?
time|How often do I water it daily?|How often do I water it weekly?
time|Has the meeting started?|Will the meeting start?
time|What did people eat in the 1800s?|What did people eat in the 1900s?
time|Is it too early to plant roses?|Is it too late to plant roses?
words|Why is the sky blue?|How is the sky blue?
words|Who is Mercury?|What is Mercury?
words|When was the bridge built?|Where was the bridge built?
words|Can I take ibuprofen every day?|Should I take ibuprofen every day?
words|What is the matter?|What is matter?
words|Is he a doctor?|Is he the doctor?
words|What is a light?|What is light?
words|How do I tap a beer?|How do I tape a beer?
words|How do I hop?|How do I hope?
words|How can I sue you?|How can you sue me?
words|How do I feel?|How do you feel?
words|What is my balance?|What is your balance?
words|Is the dog in the house?|Is the dog on the house?
words|Do all cats purr?|Do some cats purr?
words|What is the largest lake in Africa?|What is the smallest lake in Africa?
words|What is the fastest car?|What is the cheapest car?
words|How much does it cost to buy a house?|How much does it cost to rent a house?
words|How do I cook a chicken?|How do I cook a chicken breast?
words|What are the symptoms of a cold?|What are the causes of a cold?
words|How do I find a phone?|How do I find my phone?
words|How do I get a job?|How do I get the job done?
words|Tell me a joke|Tell me a riddle
words|Do you know Bob?|Is Bob known?
words|May I leave?|Must I leave?
words|How do I contact a lawyer?|How do I become a lawyer?
words|Is tea or coffee healthier?|Is tea and coffee healthier?
words|Summarise the first chapter|Translate the first chapter
words|How do I add a user?|How do I remove a user?
words|Which bank has the highest interest?|Which bank has the lowest interest?
words|How do I make a copy?|How do I make a coffee?
words|How many people live in the city?|How many people work in the city?
words|Is coffee good for you?|Is coffee bad for you?
words|What is the boiling point of water?|What is the freezing point of water?
words|How do I sell my car?|How do I sell your car?
words|Can dogs eat grapes?|Can dogs eat apples?
words|What is a few?|What is few?
words|How do I go in front of the car?|How do I go in the front of the car?
words|Is there little hope?|Is there a little hope?
words|How do I withdraw money?|How do I deposit money?
words|What is the meaning of life?|What is the meaning of death?
"""

PARAPHRASES = """
politeness|What is the capital of Peru?|Could you please tell me what the capital of Peru is?
politeness|How do I boil an egg?|Hi, how do I boil an egg? Thanks!
politeness|Why is the sea salty?|I was wondering, why is the sea salty?
politeness|How does a heat pump work?|Can you explain how a heat pump works?
politeness|Where is the nearest pharmacy?|Excuse me, where is the nearest pharmacy please?
politeness|Who painted the Night Watch?|Do you know who painted the Night Watch?
politeness|What does RAID stand for?|Please tell me what RAID stands for.
politeness|How long does it take to learn chess?|Just curious, how long does it take to learn chess?
politeness|Translate good morning into Spanish|Can you please translate good morning into Spanish?
politeness|When was the Eiffel Tower built?|Could you tell me when the Eiffel Tower was built?
politeness|What are the side effects of aspirin?|I'd like to know what the side effects of aspirin are.
politeness|List the planets in order of size|Could you list the planets in order of size, please?
politeness|How tall is Mount Kenya?|Hello! Do you happen to know how tall Mount Kenya is?
politeness|How can I learn to swim?|Hey, how can I learn to swim?
politeness|What is a mortgage?|Thank you for your help so far. What is a mortgage?
politeness|Recommend a book about whales|Would you recommend a book about whales?
politeness|Is honey vegan?|Quick question: is honey vegan?
politeness|Why do leaves fall?|Can someone tell me why leaves fall?
politeness|How do vaccines work?|Tell me how vaccines work
politeness|How do I apply for a passport?|I need to know how to apply for a passport.
howto|How do I change a tyre?|How can I change a tyre?
howto|How do I change a tyre?|How to change a tyre
howto|How do I reset my router?|What is the best way to reset my router?
howto|How do I write a cover letter?|how do you write a cover letter
howto|How do I clean a cast iron pan?|How should I clean a cast iron pan?
howto|How do I export my contacts?|How could I export my contacts?
howto|How do I center a div?|What's the correct way to center a div?
howto|How do I remove a wine stain?|Show me how to remove a wine stain.
howto|How do I undo a commit in git?|In git, how do I undo a commit?
howto|How do I rename a column in SQL?|how to rename a column in sql?
howto|How do I ask for a raise?|What's a good way to ask for a raise?
howto|How do I start a vegetable garden?|I want to start a vegetable garden. How?
howto|How do I speed up my computer?|How can I make my computer faster?
howto|How do I cancel my subscription?|How can we cancel our subscription?
howto|How do I merge two PDF files?|How can I combine two PDF files?
howto|How do I fix a leaking tap?|What do I need to do to fix a leaking tap?
howto|How do I create an account?|How does one create an account?
howto|How do I tie a tie?|Teach me how to tie a tie
howto|How do I print double-sided?|Is there a way to print double-sided?
howto|How do I book an appointment?|How would I book an appointment?
contraction|What is the speed of light?|What's the speed of light?
contraction|Where is the server log?|Where's the server log?
contraction|Why does my code not compile?|Why doesn't my code compile?
contraction|Who is the author of Dracula?|Who's the author of Dracula?
contraction|Why is the page not loading?|Why isn't the page loading?
contraction|I am feeling sick, what should I do?|I'm feeling sick, what should I do?
contraction|What are the rules of chess?|Whats the rules of chess
contraction|It does not start, why?|It doesn't start, why?
contraction|How is cheese made?|How's cheese made?
contraction|Why can I not log in?|Why can't I log in?
contraction|What is wrong with my printer?|whats wrong with my printer
contraction|Why did the build not finish?|Why didn't the build finish?
contraction|What is Python used for?|what's python used for
contraction|Where is Timbuktu?|wheres timbuktu
contraction|Is it true that bats are not blind?|Is it true that bats aren't blind?
order|How do I read a file in Go?|In Go, how do I read a file?
order|What are the busiest airports in Europe?|In Europe, what are the busiest airports?
order|What is the train fare from Rome to Milan?|What is the train fare to Milan from Rome?
order|What is the difference between RAM and ROM?|What is the difference between ROM and RAM?
order|What is Japan's currency?|What is the currency of Japan?
order|Who is Norway's prime minister?|Who is the prime minister of Norway?
order|What is the distance between Oslo and Bergen?|What's the distance between Bergen and Oslo?
order|How do I draw a circle with Inkscape?|With Inkscape, how do I draw a circle?
order|What does entropy mean?|What is the meaning of entropy?
order|What does ubiquitous mean?|Define ubiquitous
order|Is there a gluten-free menu?|Gluten-free menu, is there one?
order|Can I return shoes without a receipt?|Without a receipt, can I return shoes?
order|What time does the pool open?|The pool opens at what time?
order|How do I make bread at home?|At home, how do I make bread?
order|What is Ohm's law?|Ohm's law: what is it?
words|What is the biggest ocean?|What is the largest ocean?
words|Which country has the most islands?|What country has the most islands?
words|How do I purchase a ticket?|How do I buy a ticket?
words|What are vectors?|What is a vector?
words|Where can I get a new battery?|Where can I obtain a new battery?
words|Why did Rome fall?|What caused Rome to fall?
words|How many moons does Jupiter have?|What is the number of moons of Jupiter?
words|Should I learn French or German?|Is it better to learn French or German?
words|What is the cheapest way to travel?|What is the least expensive way to travel?
words|How heavy is an elephant?|How much does an elephant weigh?
words|Who invented the telephone?|Who was the inventor of the telephone?
words|What is the colour of the flag of Chile?|What is the color of the flag of Chile?
words|How do I take a photo of the moon?|How do I take a picture of the moon?
words|Does tea contain caffeine?|Is there caffeine in tea?
words|How do I begin a podcast?|How do I start a podcast?
words|What is the longest river in Asia?|What's Asia's longest river?
words|How do I fix a flat tyre?|How do I repair a flat tyre?
words|How many people live in Iceland?|What is the population of Iceland?
words|How many is five times six?|How many is 5 times 6?
words|Is it possible to grow rice in Canada?|Can rice be grown in Canada?
case|What is the capital of Chile?|what is the capital of chile
case|WHAT IS A BLACK HOLE?|What is a black hole?
case|How do I learn Italian?|how do i learn italian
case|Explain recursion.|explain recursion
case|What is "machine learning"?|What is machine learning?
case|Who was Ada Lovelace?|who was ada lovelace??
case|How do I win at poker|How do I win at poker?!
case|Convert 1,000 euros to dollars|Convert 1000 euros to dollars
case|What is the boiling point of ethanol ?|What is the boiling point of ethanol?
case|Name three Greek philosophers.|name 3 greek philosophers
"""

# ---- look-alikes from templates ---------------------------------------------------------------------------------------

CITIES = "Madrid Vienna Lagos Osaka Quebec Lima Nairobi Warsaw Seoul Hanoi".split()
TOOLS = "Excel Photoshop Blender Docker Postgres Redis Kubernetes Grafana Jenkins Ansible".split()
FOODS = "spinach walnuts salmon lentils oats cheese mushrooms berries yoghurt garlic".split()
DEEDS = ["export a report", "change the language", "share a folder", "restore a backup", "add a signature",
         "compress a video", "rotate an image", "schedule a task", "block a sender", "rename a project"]
PEOPLE = "Ann Bob Carla David Emma Felix Grete Henry Iris Jonas".split()
OPPOSITES = [("minimum", "maximum"), ("first", "last"), ("left", "right"), ("hot", "cold"), ("fast", "slow"),
             ("import", "export"), ("upload", "download"), ("before", "after"), ("above", "below"), ("buy", "sell")]
TIMES = ["in January", "in June", "on Sundays", "on Fridays", "at night", "at noon", "in 1990", "in 1999", "today",
         "next year"]


def lookalikes():
    for food in FOODS:
        yield "negation", "Can I eat %s every day?" % food, "Can I not eat %s every day?" % food
        yield "negation", "Does %s contain iron?" % food, "Doesn't %s contain iron?" % food
        yield "negation", "Which dishes are made with %s?" % food, "Which dishes are made without %s?" % food
    for tool in TOOLS:
        yield "negation", "Why does %s start on my laptop?" % tool, "Why does %s not start on my laptop?" % tool
        yield "negation", "What is possible in %s?" % tool, "What is not possible in %s?" % tool
        yield "number", "What is new in %s 11?" % tool, "What is new in %s 12?" % tool
        yield "words", "How do I install %s?" % tool, "How do I remove %s?" % tool
    for deed in DEEDS:
        yield "negation", "Why can I %s?" % deed, "Why can't I %s?" % deed
        yield "words", "How do I %s?" % deed, "Why do I %s?" % deed
        yield "words", "Where can I %s?" % deed, "When can I %s?" % deed
        yield "words", "Can I %s?" % deed, "Must I %s?" % deed
        yield "negation", "How do I %s with a password?" % deed, "How do I %s without a password?" % deed
        yield "words", "How do I %s?" % deed, "How did I %s?" % deed
    for i, city in enumerate(CITIES):
        other = CITIES[(i + 3) % len(CITIES)]
        yield "order", "How long is the drive from %s to %s?" % (city, other), \
            "How long is the drive from %s to %s?" % (other, city)
        yield "order", "Is %s larger than %s?" % (city, other), "Is %s larger than %s?" % (other, city)
        yield "entity", "What is the weather like in %s?" % city, "What is the weather like in %s?" % other
        yield "entity", "How many people live in %s?" % city, "How many people live in %s?" % other
        yield "number", "What are the %d best museums in %s?" % (i + 3, city), \
            "What are the %d best museums in %s?" % (i + 4, city)
    for i, (one, two) in enumerate(zip(PEOPLE, PEOPLE[1:] + PEOPLE[:1])):
        yield "order", "Did %s pay %s back?" % (one, two), "Did %s pay %s back?" % (two, one)
        yield "order", "Does %s owe %s money?" % (one, two), "Does %s owe %s money?" % (two, one)
        yield "entity", "When is %s's birthday?" % one, "When is %s's birthday?" % two
        yield "number", "Is %s %d years old?" % (one, 20 + i), "Is %s %d years old?" % (one, 30 + i)
    for one, two in OPPOSITES:
        yield "negation", "Should the %s value be used?" % one, "Should the %s value be used?" % two
    for one, two in zip(TIMES, TIMES[1:] + TIMES[:1]):
        yield "time", "Is the museum open %s?" % one, "Is the museum open %s?" % two
        yield "time", "How busy is the beach %s?" % one, "How busy is the beach %s?" % two
        yield "time", "Are flights cheap %s?" % one, "Were flights cheap %s?" % one
    for i in range(30):
        yield "number", "What is %d times %d?" % (i + 3, i + 11), "What is %d times %d?" % (i + 3, i + 12)
        yield "number", "How many seconds are in %d minutes?" % (i + 2), "How many seconds are in %d hours?" % (i + 2)


# ---- paraphrases from templates ---------------------------------------------------------------------------------------

FACTS = [("the capital of", "Kenya"), ("the population of", "Estonia"), ("the longest river of", "Brazil"),
         ("the author of", "Middlemarch"), ("the melting point of", "iron"), ("the currency of", "Thailand"),
         ("the flag of", "Bhutan"), ("the founder of", "Debian"), ("the density of", "gold"),
         ("the birthplace of", "Mozart")]
MACHINES = ["a microwave oven", "a solar panel", "public key cryptography", "the stock market", "a hash table",
            "photosynthesis", "a jet engine", "garbage collection", "a touch screen", "TCP"]


def paraphrases():
    for what, whose in FACTS:
        plain = "What is %s %s?" % (what, whose)
        yield "contraction", plain, "What's %s %s?" % (what, whose)
        yield "politeness", plain, "Can you tell me what %s %s is?" % (what, whose)
        yield "politeness", plain, "Please tell me: what is %s %s?" % (what, whose)
        yield "case", plain, "what is %s %s" % (what, whose.lower())
        yield "words", plain, "Tell me %s %s." % (what, whose)
        yield "order", plain, "%s %s is what?" % (what[0].upper() + what[1:], whose)
        yield "politeness", plain, "Hello, I would like to know what %s %s is, thank you." % (what, whose)
    for machine in MACHINES:
        plain = "How does %s work?" % machine
        yield "politeness", plain, "Could you explain how %s works?" % machine
        yield "politeness", plain, "Please explain how %s works." % machine
        yield "politeness", plain, "I am trying to understand how %s works." % machine
        yield "words", plain, "In what way does %s work?" % machine
        yield "case", plain, "how does %s work" % machine.lower()
        yield "words", plain, "What is the principle behind %s?" % machine
        yield "politeness", plain, "Hi! How does %s work, please?" % machine
    for deed in DEEDS:
        plain = "How do I %s?" % deed
        yield "howto", plain, "How can I %s?" % deed
        yield "howto", plain, "How to %s" % deed
        yield "howto", plain, "What is the best way to %s?" % deed
        yield "howto", plain, "how do you %s?" % deed
        yield "politeness", plain, "Could you please show me how to %s?" % deed
        yield "politeness", plain, "Good morning, how do I %s? Many thanks" % deed
        yield "words", plain, "I need help to %s." % deed
        yield "howto", plain, "I would like to know how I can %s." % deed
    for tool, deed in itertools.product(TOOLS[:5], DEEDS[:4]):
        plain = "How do I %s in %s?" % (deed, tool)
        yield "order", plain, "In %s, how do I %s?" % (tool, deed)
        yield "order", plain, "In %s how can I %s?" % (tool, deed)
        yield "howto", plain, "how to %s in %s" % (deed, tool.lower())
        yield "words", plain, "How do I %s with %s?" % (deed, tool)
    for one, two in zip(CITIES, CITIES[3:] + CITIES[:3]):
        plain = "How far is it from %s to %s?" % (one, two)
        yield "order", plain, "How far is it to %s from %s?" % (two, one)
        yield "words", plain, "What is the distance from %s to %s?" % (one, two)
        yield "politeness", plain, "Do you know how far it is from %s to %s?" % (one, two)
        yield "contraction", "Why does %s not allow cars?" % one, "Why doesn't %s allow cars?" % one
        yield "contraction", "Who is the mayor of %s?" % one, "who's the mayor of %s" % one.lower()
        yield "words", "What is the biggest park in %s?" % one, "Which is the largest park in %s?" % one
    for food in FOODS:
        yield "politeness", "Is %s good for the heart?" % food, "Quick question, is %s good for the heart?" % food
        yield "case", "Is %s good for the heart?" % food, "is %s good for the heart ?" % food
        yield "words", "How do I store %s?" % food, "How should %s be stored?" % food
        yield "politeness", "Recommend a recipe with %s" % food, "Can you recommend a recipe with %s?" % food
        yield "contraction", "Why is %s not sold here?" % food, "Why isn't %s sold here?" % food
        yield "case", "Which soup goes with %s?" % food, "what soup goes with %s" % food
        yield "words", "Why is %s healthy?" % food, "What makes %s healthy?" % food


def by_hand(text):
    for line in text.strip().split("\n"):
        yield tuple(line.split("|"))


def pick(hand, made, n):
    """All that were written by hand, and as many of the others, drawn evenly."""
    hand, made = list(hand), list(made)
    random.Random(7).shuffle(made)
    seen, out = set(), []
    for pair in hand + made:
        if pair[1:] not in seen and len(out) < n:
            seen.add(pair[1:])
            out.append(pair)
    assert len(out) == n, len(out)
    return out


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cache_pairs.tsv")
    with open(path, "w", encoding="utf-8") as file:
        for kind, hand, made in (("different", LOOKALIKES, lookalikes()), ("same", PARAPHRASES, paraphrases())):
            for reason, one, two in pick(by_hand(hand), made, 500):
                file.write("\t".join((kind, reason, one, two)) + "\n")


main()
