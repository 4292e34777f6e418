"""What a person does here, with no widget in sight: chatting, comparing, rating, bringing ratings.

chat.py is a turn, compare.py several drafts of one, message_feedback.py what is said of them. Left out: the
screens (web).
"""
