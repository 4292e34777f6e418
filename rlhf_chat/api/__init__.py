"""An API for other programs, on the app's own port under /v1: chat completions as OpenAI's, and
what makes this app different, feedback on each of them. Off unless asked for; guarded by a token.

server.py composes the routes, client.py speaks to them from another process.
"""
