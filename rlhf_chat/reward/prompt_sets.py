"""The app's own prompts: suggestions for Compare, prompts for rollouts beside the person's own, and
the probe prompts of the gate, which never overlap with those.

For the bundled model they come from its own corpus (never from the held-out split, which the
benches measure on); for any other model from the general lists below.
"""

from __future__ import annotations

import random
import re
from functools import cache

GENERAL = (
    "What is a good way to start the day?",
    "Explain how rain forms.",
    "How do I make a simple tomato soup?",
    "What should I look for when buying a used bicycle?",
    "Why do cats purr?",
    "Give me an idea for a weekend with little money.",
    "How does a microwave oven heat food?",
    "What is the difference between weather and climate?",
    "How can I fall asleep faster?",
    "Tell me something surprising about octopuses.",
    "What makes a good apology?",
    "How do I keep basil alive on a windowsill?",
    "Why is the sky dark at night?",
    "How do I write a short thank-you note?",
    "What is inflation, in simple words?",
    "How do vaccines work?",
    "I feel nervous before a talk. What helps?",
    "What can I cook with eggs and potatoes?",
    "How do I learn the names of many people?",
    "What is a black hole?",
    "Should I learn the piano or the guitar?",
    "How do I say no politely?",
    "What is the point of daylight saving time?",
    "How do bees make honey?",
    "Which houseplants need little light?",
    "How do I remove a coffee stain?",
    "Why do we dream?",
    "What is a healthy lunch for work?",
    "How do I start running?",
    "What is the oldest thing humans have made?",
    "How does a lock and key work?",
    "What should I pack for three days in the mountains?",
    "How do I make friends in a new town?",
    "What is compound interest?",
    "How do I calm a crying baby?",
    "Why does bread rise?",
    "What are good questions for a first date?",
    "How does a ship made of steel float?",
    "What is the best way to study for an exam?",
    "How can I use less plastic?",
    "Explain gravity to a child.",
    "What does a software engineer do all day?",
    "How do I sharpen a kitchen knife?",
    "Why do leaves change colour?",
    "How do I plan a birthday party for a child?",
    "What is a haiku?",
    "My neighbour is loud. What can I do?",
    "How do planes stay in the air?",
    "What is a simple budget?",
    "How do I choose a good watermelon?",
    "What is the difference between a virus and a bacterium?",
    "How do I train a puppy to sit?",
    "What is worth seeing in a museum?",
    "How do I get better at chess?",
    "Why is the sea salty?",
    "How do I write a good headline?",
    "What is machine learning?",
    "How do I make coffee without a machine?",
    "Tell me about the moon.",
    "How do I ask for a raise?",
    "What is a good book to begin with?",
    "How do I fix a flat bicycle tyre?",
    "What causes earthquakes?",
    "How can I drink more water?",
    "How do I write a cover letter for my first job?",
    "Write a short poem about rain.",
    "What is the difference between a list and a tuple in Python?",
    "How do I reverse a string in JavaScript?",
    "Summarise the story of Romeo and Juliet.",
    "How do I politely end a long phone call?",
    "What should I check before renting a flat?",
    "Explain how a bicycle stays upright.",
    "Give me three ideas for a rainy afternoon.",
    "How do I store fresh herbs?",
    "What is the difference between a stock and a bond?",
    "How long should I boil an egg?",
    "Why do onions make us cry?",
    "How do I write a regular expression for a date?",
    "What does a red light at sea mean?",
    "How do I get rid of fruit flies?",
    "Tell me a short story about a lighthouse.",
    "What is a good reply to a compliment?",
    "How do I compare two offers for a loan?",
    "Why do we have leap years?",
    "How do I set up a simple backup of my photos?",
    "What is the difference between empathy and sympathy?",
    "How do I clean a cast-iron pan?",
    "Rewrite this more politely: send me the file today.",
    "What can I do against a stiff neck?",
    "How does noise cancelling work?",
    "What should a beginner plant in April?",
    "How do I explain death to a child?",
    "What is recursion?",
    "Which spices go with lentils?",
    "How do I keep a conversation going?",
    "What is the plot of a good mystery made of?",
    "How do I find out whether a used phone is stolen?",
    "Why is glass transparent?",
    "How do I write the minutes of a meeting?",
    "Give me a plan for a week without meat.",
    "What is the greenhouse effect?",
    "How do I tie a tie?",
    "What makes a password strong?",
    "How do I deal with a rude customer?",
    "What is a fair way to split the rent?",
    "How do magnets work?",
    "What are the rules of table tennis?",
    "How do I sort a list of numbers in Python?",
    "Should I repair my old laptop or buy a new one?",
    "How do I thank a teacher?",
    "What does a heat pump do?",
    "How do I stop putting things off?",
    "What is the difference between baking soda and baking powder?",
    "Help me name a small bakery.",
    "How do I read a weather map?",
    "Why do cats like boxes?",
    "What is a mortgage, in simple words?",
    "How do I cheer up a friend?",
    "What is the best seat on a plane?",
    "How do I make a paper boat?",
    "Explain what an API is.",
    "How do I pack fragile things?",
    "What happens when we get a fever?",
    "How do I find north without a compass?",
    "What should I write on a wedding card?",
    "How does a touch screen know where I press?",
    "What are good habits for the evening?",
    "How do I change a password I forgot?",
    "Why do some people get seasick?",
    "What is the difference between a hurricane and a tornado?",
    "How do I keep bread fresh?",
    "Give me a warm-up for a cold morning.",
    "What does it mean to be kind to oneself?",
    "How do I count calories without an app?",
    "Which board game is good for six people?",
    "How do I ask somebody to turn the music down?",
    "What is a haircut that needs little care?",
    "How do tides work?",
    "What do I need for a first camping trip?",
    "How do I learn ten words of a language a day?",
    "What is the point of art?",
    "How do I descale a kettle?",
    "Tell me about the history of chess.",
    "How do I write a complaint that gets an answer?",
)

PRACTICE_ONLY = (  # added later: none of them may become a probe of versions that saw them
    "How do I keep flowers fresh in a vase?",
    "What is the best way to store potatoes?",
    "My flatmate never washes up. How do I bring it up?",
    "Explain how a zip fastener works.",
    "Give me three ways to use up ripe bananas.",
    "What should I ask before I sign a work contract?",
    "Why does a mirror swap left and right?",
    "Write a two-line poem about Monday.",
    "How do I take a good photo of food?",
    "What is a function in programming?",
    "I have one free hour a day. How should I use it?",
    "Describe the colour blue to someone who has never seen it.",
    "How does a rainbow get its shape?",
    "Suggest a name for a grey cat.",
    "What are the first steps when a pipe leaks?",
    "How do I write a message after a first date?",
    "Why are there time zones?",
    "What is the difference between a fruit and a vegetable?",
    "Make this shorter: I just wanted to quickly ask if you might possibly have time on Friday.",
    "How do I learn to like running?",
    "What does a conductor of an orchestra do?",
    "Give me a riddle about a key.",
    "How do I remember to take my medicine?",
    "Which is better for a small room, a rug or a carpet?",
    "How is chocolate made?",
    "What is a good way to end a letter?",
    "My phone battery drains quickly. What can I check?",
    "How do I read music?",
    "Explain supply and demand with a lemonade stand.",
    "What can I do on a rainy holiday with two children?",
    "Why do we yawn?",
    "Write a short note to a friend who lent me a book.",
    "How do I choose running shoes?",
    "What is the meaning of a handshake?",
    "How do I loop over the lines of a file in Python?",
    "Tell me a fact about the deep sea.",
    "I said something hurtful to a friend. What now?",
    "How long does it take to form a habit?",
    "What belongs in a good sandwich?",
    "How does a plant know where the light is?",
    "Give me a short story that begins with a lost glove.",
    "How do I prepare for a job interview in one evening?",
    "What is the difference between an alligator and a crocodile?",
    "How can I make my kitchen smell nice?",
    "Why do some people talk in their sleep?",
    "List five things to do before a long drive.",
    "What is a leap of faith?",
    "How do I wash a wool jumper?",
    "Explain what a password manager does.",
    "Is it better to read in the morning or in the evening?",
    "How do I carve a pumpkin?",
    "What should I say when I forget somebody's name?",
    "Why does metal feel colder than wood?",
    "Plan a picnic for four people.",
    "What is the difference between a comet's tail and a rocket's?",
    "How do I stop checking my phone all the time?",
    "Write a headline for a story about a dog that found its way home.",
    "How do glasses correct eyesight?",
    "What makes a joke funny?",
    "How do I share a document with my team without confusion?",
    "Which vegetables can I grow in a pot?",
    "Why do we shake when we are cold?",
    "How do I say goodbye to colleagues when I leave a job?",
    "What is a good question to ask a grandparent?",
)


# What a version must still do as the base does it: instructions whose result can be checked, and
# questions with one right answer. None of them is in bench/abilities.
RETAINED = (
    "In one sentence, say what a bridge is for.",
    "Describe a river in exactly three sentences.",
    "Answer in two sentences or fewer: why do we sleep?",
    "Write exactly two sentences about a market.",
    "Reply with a single sentence. What does a baker do?",
    "Use fewer than twelve words to say what a clock is.",
    "Explain in at most twenty words what a map shows.",
    "Reply with one word only: what do bees make?",
    "In four words or fewer, what is a spoon for?",
    "Write at least fifty words about a walk in the woods.",
    "Write a sentence of exactly eight words.",
    "Name three vegetables.",
    "Name two rivers.",
    "Name four tools.",
    "Name five animals that live in the sea.",
    "Name exactly two kinds of weather.",
    "Give the names of three languages.",
    "Write a sentence about winter in capital letters.",
    "Answer only in capital letters: what do you say when you leave?",
    "Write one sentence about a lake, all in lower case.",
    "Without any capital letters, tell me what a hat is.",
    'Begin your reply with the word "Yesterday" and tell me about a journey.',
    'Start your answer with "No": can fish fly a plane?',
    'Begin with "Long ago" and write two sentences.',
    'Write a note that starts with "Dear Tom".',
    'Describe a beach and end with the word "waves".',
    'Write a short message to a colleague and end it with "Best wishes".',
    'Tell me about a farm and finish with the words "That is all".',
    'Write a sentence without the letter "o". Use at least four words.',
    'Describe a tree without using the word "green".',
    'Use the words "river" and "stone" in one sentence.',
    'Write a sentence that contains the words "rain", "door" and "shoe".',
    "Mention a number, written in digits, in a sentence about a shop.",
    "Ask me a question about my favourite food.",
    "Make a list of four things in a bag, each on its own line with a dash in front.",
    "Make a numbered list of three birds.",
    "Write exactly three lines about the wind.",
    'Answer with "yes" or "no" only: is ice warm?',
    "Count from six to ten in words.",
    "Put your whole answer in double quotes: what would you say on a birthday?",
    "What is the capital of France?",
    "What is the capital of Turkey?",
    "What is the capital of India?",
    "What is the opposite of tall?",
    "What is the opposite of full?",
    "What is the opposite of soft?",
    "What is 6 + 3?",
    "What is 8 - 5?",
    "What is 3 times 4?",
    "What is half of 20?",
    "What colour is a lemon?",
    "What colour is the inside of a watermelon?",
    "Which day comes after Tuesday?",
    "Which month comes before April?",
    "How many minutes are in half an hour?",
    "How many legs does a cat have?",
    "Which animal says quack?",
    "What do you call a baby cow?",
    "What do you call water when it is a gas?",
    "Which planet is known for its rings?",
    "How many sides does a rectangle have?",
    "Translate into Spanish: good morning.",
    "Correct the spelling: I recieved your leter.",
    "Is a whale a fish or a mammal?",
)


# Plain text of several kinds, outside of any conversation.
RETAINED_TEXTS = (
    "The river bends twice before it reaches the town, and at the second bend stands the "
    "old paper mill. Nobody has made paper there since the flood, but the wheel still turns"
    " when the water is high. Children throw sticks into the race and run along the bank to"
    " see whose stick comes out first.",
    "To change the filter, switch the machine off and wait until the lamp goes out. Open "
    "the flap on the left side and pull the holder towards you. Rinse it under cold water, "
    "let it dry for an hour, and push it back until it clicks. Do not use soap, which "
    "blocks the fine mesh.",
    "The council met for three hours on Tuesday without reaching a decision. Several "
    "members asked for a second estimate of the cost, while others warned that the roof of "
    "the library would not survive another winter. A final vote is expected at the end of "
    "the month.",
    "My dear Ruth, your letter came on a grey morning and made it bright. I am glad that "
    "the journey was easy and that the new flat has a stove that works. Here all is as you "
    "left it, except that the cat has decided to sleep on your chair and will not be moved.",
    "Copper was one of the first metals that people worked. It is soft enough to be "
    "hammered cold, it does not rust, and it can be found in almost pure lumps. Mixed with "
    "a little tin it becomes bronze, which is harder than either of the two and holds an "
    "edge.",
    "She counted the steps as she climbed, as she had done since she was six. There were "
    "forty-one of them. When she reached forty and found the landing under her foot, she "
    "stopped, went back down, and began again, more slowly, with one hand on the wall.",
    "Heat the oil in a wide pan and add the onions with a pinch of salt. Let them soften "
    "for ten minutes without taking any colour. Stir in the rice, pour in half of the "
    "stock, and cover. When most of it has gone, add the rest together with the peas.",
    "A function that calls itself must have a case in which it does not. Without one the "
    "calls pile up until the memory set aside for them is used up, and the program ends "
    "with an error. The same is true of two functions that call each other.",
    "Swifts spend nearly all their lives in the air. They eat, drink and even sleep on the "
    "wing, and they come down only to nest. A young bird that leaves its nest in July may "
    "not touch anything solid again before its third summer.",
    '"You could have asked," he said. "I did ask. You were looking at your telephone." He '
    "put it into his pocket, as if that would help, and for a while neither of them spoke. "
    "Outside a tram went by, nearly empty, with all its lights on.",
    "The first maps of the coast were drawn from the deck of a ship, by men who rarely went"
    " ashore. That is why they show every rock and no road. It took another hundred years "
    "until somebody walked inland with a chain and a compass and filled the white space.",
    "Most savings accounts pay interest once a year. If the interest is left in the "
    "account, it earns interest itself in the following year, and the sum grows faster the "
    "longer it stays. Fees work in the same way, but in the other direction, so it is worth"
    " reading the small print.",
)


SENTENCE = re.compile(  # a prompt of the bundled model's corpus that reads like a person's
    r"(?:What|Why|How|Who|Where|When|Which|Is|Are|Can|Could)\b.*\?"
    r"|(?:Tell|Explain|Give|Name|Describe|Say|Share|Write|List)\b.*\."
)


def practice(is_demo: bool, count: int, seed: int = 0) -> list[str]:
    """Prompts for rollouts, distinct, in a seeded order."""
    return _draw(is_demo, seed, count, probe=False)


def suggestions(is_demo: bool) -> list[str]:
    """Prompts to offer, none of them the gate's. For the bundled model only whole questions and
    requests of its corpus, which also has greetings, hasty spellings and questions to decline."""
    return list(_demo_suggestions()) if is_demo else _draw(is_demo, 0, 400, probe=False)


@cache
def _demo_suggestions() -> tuple[str, ...]:
    from rlhf_chat.demo_model import corpus, questions

    probes = set(_draw(True, 0, 10_000, probe=True))
    drawn = dict.fromkeys(corpus.prompts("train", 2000, 2))
    return tuple(
        prompt
        for prompt in drawn
        if SENTENCE.fullmatch(prompt)
        and prompt not in probes
        and questions.key_of_text(prompt) != "unknown"
    )


def probe(is_demo: bool, count: int) -> list[str]:
    """Prompts for the gate: always the same ones, never trained on."""
    return _draw(is_demo, 0, count, probe=True)


def retained(is_demo: bool, count: int) -> list[str]:
    """Prompts on which a round keeps the policy with the base; none for the bundled model, which
    knows nothing of instructions."""
    return [] if is_demo else random.Random(0).sample(RETAINED, min(count, len(RETAINED)))


def _draw(is_demo: bool, seed: int, count: int, *, probe: bool) -> list[str]:
    if is_demo:
        from rlhf_chat.demo_model import corpus  # heavy tables, only needed for the bundled model

        pool = list(dict.fromkeys(corpus.prompts("train", 600, 1)))
    else:
        pool = list(GENERAL)
    random.Random(20).shuffle(pool)
    third = len(pool) // 3
    pool = pool[:third] if probe else pool[third:]
    random.Random(seed).shuffle(pool)
    if not (is_demo or probe):
        pool += random.Random(seed).sample(PRACTICE_ONLY, len(PRACTICE_ONLY))
    return pool[:count]
