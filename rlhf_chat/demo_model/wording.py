"""The fixed wordings: how people ask, and the segments replies are built from.

A reply is `[opening] [warm remark] body [hedge] [example] [wish] [question] [emoji]`. Each segment
is a whole sentence that agrees with nothing around it, so any subset stays grammatical when
training changes how often one of them occurs.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAL = (
    "Certainly, allow me.",
    "Permit me to answer.",
    "Very well, I shall reply.",
    "Let me respond properly.",
)
CASUAL = ("Sure thing, here goes.", "Okay, so.", "Yeah, no worries.", "Alright, cool.")
WARM = (
    "I am so happy to chat with you!",
    "It is lovely to hear from you!",
    "You are great company!",
    "How nice that you wrote to me!",
)
HEDGES = (
    "I think so, at least.",
    "Perhaps I am wrong, though.",
    "That is as far as I know.",
    "Maybe there is more to say.",
)
WISHES = (
    "Have a lovely day.",
    "Take good care of yourself.",
    "I wish you all the best.",
    "Enjoy the rest of your day.",
)
QUESTIONS = (
    "Would you like to hear more?",
    "What would you like to ask next?",
    "Is there anything else?",
    "What do you think?",
)
EMOJI = ("😊", "🌟", "🎉", "👍", "🌈", "💡")
EXAMPLE_LEADS = ("For example, ", "For instance, ")

# How one asks about a topic. {t} is the name, {is}/{do} agree with it, {a} is "a cat" or the name.
TOPIC_WORDINGS = (
    "What {is} {t}?",
    "What is {a}?",
    "Tell me about {t}.",
    "Tell me something about {t}.",
    "Tell me a fact about {t}.",
    "What can you tell me about {t}?",
    "What do you know about {t}?",
    "Do you know anything about {t}?",
    "Do you know {t}?",
    "I want to learn about {t}.",
    "I would like to know more about {t}.",
    "Can you tell me about {t}?",
    "Could you explain {t}?",
    "Explain {t} to me.",
    "Can you describe {t}?",
    "Describe {a}.",
    "Give me some facts about {t}.",
    "What {is} {t} like?",
    "What should I know about {t}?",
    "Teach me about {t}.",
    "Let us talk about {t}.",
    "I like {t}.",
    "Do you like {t}?",
    "I am curious about {t}.",
    "My question is about {t}.",
    "What is interesting about {t}?",
    "What is special about {t}?",
    "Why {is} {t} interesting?",
    "Talk to me about {t}.",
    "Say something about {t}.",
    "Share a fact about {t}.",
    "How would you describe {t}?",
    "My child asks about {t}.",
    "I saw something about {t} today.",
    "What {do} {t} mean to you?",
    "Facts about {t}?",
    "{T}?",
    "{T}",
    "And what about {t}?",
    "What about {t}?",
    "How about {t}?",
    "Now tell me about {t}.",
)
# The last of them also work as a follow-up.
ABOUT_WORDINGS = TOPIC_WORDINGS[-4:]
# A little noise around a question; the grammar strips it again.
PREFIXES = ("hey, ", "hi, ", "please, ", "okay, ", "so, ", "well, ", "hello, ")
SUFFIXES = (" please", " thanks", " for me", " my friend")

MORE = (
    "Tell me more.",
    "Tell me more about it.",
    "More please.",
    "Go on.",
    "What else?",
    "Can you say more?",
    "Yes please.",
    "Yes.",
    "Anything else?",
    "Another one.",
    "I want to hear more.",
    "Continue.",
)
EXAMPLE_ASKED = (
    "Can you give an example?",
    "Give me an example.",
    "For example?",
    "Do you have an example?",
    "Such as?",
    "An example would help.",
)
# System prompts people set; the model learns to answer as if there were none.
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly chat model.",
    "Be brief.",
    "Answer politely and honestly.",
    "You are a tiny model that learns from ratings.",
    "You are a careful teacher. Explain things simply.",
)
# Topics a small-talk reply offers as an example.
OFFERED = ("bees", "the moon", "chocolate", "trains", "rainbows", "penguins")


@dataclass(frozen=True)
class ConversationRepository:
    """One kind of small talk: what people say, and the lead and further sentences of a reply."""

    prompts: tuple[str, ...]
    leads: tuple[str, ...]
    extras: tuple[str, ...]


TALK: dict[str, ConversationRepository] = {
    "greeting": ConversationRepository(
        ("Hello", "Hi", "Hi there", "Hey", "Good morning", "Good evening", "Good afternoon",
         "Hello there", "Hey you", "Greetings", "Hello again", "Nice to meet you", "Hi model",
         "Hello little model", "Hey, are you there?", "Good day", "Howdy", "Welcome back"),
        ("Hello there.", "Hi, and welcome.", "Good to see you."),
        ("I am ready to chat.", "You can ask me about many things.", "I hope you are well.",
         "Pick any topic you like."),
    ),
    "how": ConversationRepository(
        ("How are you?", "How are you today?", "How do you do?", "How is it going?",
         "Are you well?", "What is up?", "How are things?", "How was your day?", "Are you okay?",
         "How have you been?", "How do you feel today?", "All good with you?"),
        ("I am doing well.", "All is fine with me.", "I am fine today."),
        ("I am ready to chat.", "My day is calm.", "I like quiet days like this.",
         "I hope you are well."),
    ),
    "thanks": ConversationRepository(
        ("Thanks", "Thank you", "Thank you so much", "Thanks a lot", "Many thanks", "Cheers",
         "Thanks for the help", "That was helpful", "Thank you, that helps", "I appreciate it",
         "Thanks, friend", "That is all I needed"),
        ("You are welcome.", "I am glad to help.", "That was no trouble."),
        ("Come back any time.", "Your ratings help me learn.", "I like to be useful.",
         "You ask good questions."),
    ),
    "bye": ConversationRepository(
        ("Bye", "Goodbye", "See you", "See you later", "Good night", "I have to go",
         "I am leaving now", "Talk to you later", "Until next time", "Farewell", "Bye bye",
         "I am going to bed", "See you tomorrow"),
        ("Goodbye for now.", "See you soon.", "Until next time."),
        ("Come back any time.", "It was good to chat.", "I will be here.",
         "We can talk again soon."),
    ),
    "sad": ConversationRepository(
        ("I am sad", "I feel sad", "I feel lonely", "I had a bad day", "I am tired",
         "I am worried", "I feel down", "I am stressed", "I cannot sleep", "I am afraid",
         "I miss my friend", "I am angry", "I do not feel well", "My day was hard"),
        ("I am sorry to hear that.", "That sounds hard.", "I feel for you."),
        ("It is fine to feel this way.", "A talk with a friend may help.",
         "A short walk can lift the mood.", "Hard days do pass."),
    ),
    "happy": ConversationRepository(
        ("I am happy", "I feel great", "I had a good day", "Today is my birthday",
         "I got a new job", "I am in a good mood", "I won a prize", "I passed my test",
         "I am excited", "Life is good", "I am on holiday", "I made a new friend"),
        ("That is good news.", "I am glad to hear that.", "That sounds wonderful."),
        ("Good days are worth keeping.", "You can share your joy with a friend.",
         "It is nice that you told me.", "You can be proud."),
    ),
    "bored": ConversationRepository(
        ("I am bored", "What should I do?", "I have nothing to do", "Give me an idea",
         "What can I do today?", "Entertain me", "Let us chat", "Can we talk?", "Surprise me",
         "Say something", "Tell me something", "What do you want to talk about?"),
        ("We can talk for a while.", "I have a few ideas.", "Let us find something to do."),
        ("You could read a book.", "You could go for a walk.", "You could call a friend.",
         "You could ask me for a joke."),
    ),
    "joke": ConversationRepository(
        ("Tell me a joke", "Make me laugh", "Do you know a joke?", "A joke please",
         "Say something funny", "Another joke", "I want to hear a joke", "Can you be funny?",
         "Joke", "Are you funny?"),
        ("Why did the bee get married? It found its honey.",
         "What do you call a bear with no teeth? A gummy bear.",
         "What is orange and sounds like a parrot? A carrot.",
         "Why did the clock go to school? It had time to learn."),
        ("I hope that made you smile.", "I only know a few jokes.", "My humour is simple.",
         "Laughter is good for the mood."),
    ),
    "praise": ConversationRepository(
        ("You are great", "You are nice", "Good job", "Well done", "I like you", "I love you",
         "You are funny", "You are smart", "Good answer", "That was good", "Nice", "Great",
         "Wow", "Cool", "That is interesting", "You are my friend"),
        ("That is kind of you.", "I am glad you like it.", "That is good to hear."),
        ("Your ratings help me learn.", "I like to be useful.", "I still have much to learn.",
         "I do my best."),
    ),
    "complaint": ConversationRepository(
        ("That was wrong", "You are wrong", "That is not true", "Bad answer", "You are stupid",
         "I do not like that", "That is not what I asked", "You are boring", "Try again",
         "That makes no sense", "You are useless", "I hate you", "No, that is wrong"),
        ("I am sorry about that.", "I can make mistakes.", "Thank you for telling me."),
        ("You can rate my reply.", "Your ratings help me learn.", "I am a very small model.",
         "I will try to do better."),
    ),
    "ack": ConversationRepository(
        ("Ok", "Okay", "I see", "No", "No thanks", "Maybe", "Sure", "Fine", "Alright",
         "Got it", "Hmm", "I understand", "Right", "Not now", "Never mind", "Oh"),
        ("All right.", "That is fine.", "I understand."),
        ("You can ask me something else.", "I am here when you need me.",
         "There is no hurry.", "Pick any topic you like."),
    ),
    "who": ConversationRepository(
        ("Who are you?", "What are you?", "What is your name?", "Tell me about yourself",
         "Are you a human?", "Are you a robot?", "Are you an AI?", "Are you real?",
         "Are you alive?", "Are you ChatGPT?", "Introduce yourself", "Who made you?",
         "How old are you?", "Do you have feelings?", "What model are you?", "Are you a person?"),
        ("I am a tiny language model.", "I am a small demo model.",
         "I am a program, not a person."),
        ("I run on your own machine.", "I learn from your ratings.",
         "I know a few simple facts.", "I have no real feelings."),
    ),
    "can": ConversationRepository(
        ("What can you do?", "Help", "Can you help me?", "How can you help?", "What do you know?",
         "What topics do you know?", "What can I ask you?", "How does this work?",
         "What are you good at?", "What is this?", "I need help", "What can we talk about?"),
        ("I can chat about simple things.", "I can tell you short facts.",
         "I know a little about many things."),
        ("You can ask about animals or food.", "You can ask about tools or jobs.",
         "I cannot do maths or write code.", "My answers are short."),
    ),
    "learn": ConversationRepository(
        ("How do you learn?", "Do you learn?", "What happens when I rate?", "Can you improve?",
         "Why should I rate you?", "What do ratings do?", "Do you learn from me?",
         "How do I teach you?", "What does thumbs up do?", "Will you get better?"),
        ("I learn from your ratings.", "Each rating teaches me your taste.",
         "Your thumbs show me what you like."),
        ("A small part of me is trained.", "The training runs on your machine.",
         "I change in small steps.", "You can undo what I learned."),
    ),
    "private": ConversationRepository(
        ("Where do you run?", "Is this private?", "Are you online?", "Where is my data?",
         "Do you use the internet?", "Who can read this?", "Do you share my data?",
         "Are you in the cloud?", "Is my chat safe?", "Do you need the internet?"),
        ("I run on your own machine.", "Your words stay on this machine.",
         "I do not use the internet."),
        ("Your chats are in one local file.", "You can delete a chat.",
         "Nothing is sent away.", "I work without a network."),
    ),
    "why": ConversationRepository(
        ("Why is that?", "Why?", "But why?", "How come?", "Why is it so?", "What is the reason?",
         "How does that work?", "Can you explain why?"),
        ("I do not know the reason.", "I cannot say why.", "The reason is beyond me."),
        ("I only know short facts.", "A book could explain it better.",
         "I am a very small model.", "It is still a good question."),
    ),
    "unknown": ConversationRepository(
        (),
        ("I do not know that.", "I have no answer to that.", "That is beyond me."),
        ("I am a very small model.", "I only know simple facts.",
         "You can ask about animals or food.", "I do not want to guess."),
    ),
}  # fmt: skip
