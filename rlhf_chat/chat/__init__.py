"""What a user can do, without widgets: conversations (conversations.py), replies (chat.py),
comparisons (compare.py), ratings (message_feedback.py), settings, raters, imports and exports.
"""
