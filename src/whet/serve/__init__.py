"""OpenAI's API over models of one's own. So far inference: models, chat, completions, embeddings.

serve.py      opens the models, listens, tells, runs until a signal
app.py        the application: routes, and every fault in OpenAI's envelope
guard.py      what every request meets first: its id, the key, the size of its body, counting
opened.py     runs and models by name; runs on one base are one model in memory
routes/       one file a resource; `wire/` says what requests may hold and how answers look
inference/    the thread that owns a model: requests in, pieces of answers out
"""
