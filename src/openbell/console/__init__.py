"""The console: the desk in a browser, for people. Files, and the rules under which they are sent.

It holds no secret and knows no desk: everything it shows it asks of the controller's API, with the
token that a person gave it.
"""
