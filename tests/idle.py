"""Whether a model has given everything back."""


def is_idle(llm):
    """Whether no request holds a slot or a page, once all commands before this call were carried out."""
    scheduler, memory = llm.scheduler, llm.engine.memory
    state = scheduler.call(lambda: (scheduler.n_running, scheduler.n_waiting, memory.n_available))
    return state == (0, 0, memory.n_pages)
