"""Verbs of the command line that use a data folder: chat, rate, train, versions, export, token. One
function each, as cli.py describes. While an app with
`--api` is open on the folder they go to its API."""
