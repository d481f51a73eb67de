"""The model in programs on asyncio: texts run together, and whatever is cancelled gives its place back at once."""

import asyncio
import gc
import os
import threading
import time
from dataclasses import replace

import pytest
from idle import is_idle as model_is_idle

from pyinfer import LLM, AsyncLLM, BusyError, ContextError, ParameterError, PyinferError, SamplingParams
from pyinfer.tasks.generation import MAX_AHEAD

GREEDY = SamplingParams(temperature=0, max_tokens=12)
LONG = SamplingParams(temperature=0, max_tokens=4000, ignore_eos=True)


@pytest.fixture(scope="module")
def expected(path):
    """What the synchronous model says: a function of (prompt, params)."""
    with LLM(path, n_threads=1, kv_type="f32") as llm:
        yield llm.generate


@pytest.fixture
def llm(path):
    model = AsyncLLM(path, n_ctx=8192, n_threads=1, kv_type="f32", n_seqs=3, max_waiting=4)
    yield model
    model.close()


async def until(condition, seconds=10):
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end
        await asyncio.sleep(0.001)


def is_idle(llm):
    return model_is_idle(llm.llm)


def test_texts_run_together_and_are_what_they_are_alone(llm, expected):
    prompts = ["Hello", "world", "a longer prompt than the others", "x", "y"]

    async def streamed(prompt):
        stream = llm.stream(prompt, GREEDY)
        text = "".join([piece.text async for piece in stream])
        assert text == stream.completion.text
        return stream.completion.tokens

    async def main():
        one_by_one = await asyncio.gather(*[streamed(p) for p in prompts])
        together = await llm.generate(prompts, GREEDY)
        return one_by_one, [done.tokens for done in together], (await llm.generate("x", GREEDY)).tokens

    tokens = [expected(p, GREEDY).tokens for p in prompts]
    assert asyncio.run(main()) == (tokens, tokens, tokens[3])


def test_several_texts_of_a_prompt_are_streamed_together(llm, expected):
    params = SamplingParams(n=2, seed=3, max_tokens=100, ignore_eos=True)

    async def main():
        stream, texts = llm.stream("Hello", params), ["", ""]
        async for piece in stream:
            texts[piece.index] += piece.text
        return texts, stream.completion

    texts, done = asyncio.run(main())
    assert texts == [choice.text for choice in done.choices]
    assert [choice.tokens for choice in done.choices] == [choice.tokens for choice in expected("Hello", params).choices]


@pytest.mark.parametrize("how", ["task", "aclose", "break", "block"])
def test_a_stream_that_is_left_gives_its_place_back(llm, how):
    async def read(stream):
        async for piece in stream:
            assert piece.text
            if how == "break":
                break

    async def main():
        stream = llm.stream("Hello", LONG)
        task = asyncio.create_task(read(stream))
        await asyncio.sleep(0)  # it waits for a piece now
        await until(lambda: llm.llm.scheduler.n_running == 1)
        if how == "task":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "aclose":
            await stream.aclose()
            await task
        elif how == "break":
            await task
            del stream, task
            gc.collect()
        else:
            async with stream:
                pass
            await task
        if how == "break":  # it ends before the next step, whoever needs that
            await llm.generate("x", GREEDY)
        await until(lambda: is_idle(llm))

    asyncio.run(main())


def test_a_generate_that_is_cancelled_gives_its_places_back(llm):
    async def main():
        task = asyncio.create_task(llm.generate(["a", "b", "c", "d"], LONG))
        await until(lambda: llm.llm.scheduler.n_running == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: is_idle(llm))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(llm.generate("a", LONG), 0.05)
        await until(lambda: is_idle(llm))

    asyncio.run(main())


def test_a_consumer_that_is_behind_pauses_its_text_and_no_other(llm, expected):
    drawn = []
    params = SamplingParams(temperature=0, max_tokens=5 * MAX_AHEAD, ignore_eos=True)
    counted = replace(params, logits_processors=[lambda tokens, logits: drawn.append(1) or logits])

    async def main():
        slow = llm.stream("Hello", counted)
        await anext(slow)
        await until(lambda: len(drawn) > MAX_AHEAD)
        n_drawn = 0
        while len(drawn) > n_drawn:  # a token need not give a piece
            n_drawn = len(drawn)
            assert (await llm.generate("x", GREEDY)).tokens == expected("x", GREEDY).tokens
        assert MAX_AHEAD < n_drawn < 3 * MAX_AHEAD
        async for _ in slow:
            pass
        return slow.completion.tokens

    assert asyncio.run(main()) == expected("Hello", params).tokens


def test_more_requests_than_may_wait_are_refused(llm):
    async def main():
        streams = [llm.stream("x", LONG) for _ in range(7)]
        with pytest.raises(BusyError, match="7 requests are under way and 1 more came; expected at most 7"):
            llm.stream("y", GREEDY)
        with pytest.raises(BusyError):
            await llm.generate("y", GREEDY)
        await streams[0].aclose()
        await until(lambda: llm.llm.scheduler.n_waiting < 4)
        assert (await llm.generate("y", GREEDY)).tokens
        for stream in streams:
            await stream.aclose()

    asyncio.run(main())


def test_too_many_prompts_are_refused_before_any_is_read(llm):
    class Prompts(list):
        def __iter__(self):
            return iter([*["x"] * 8, ""])  # the last gives no tokens

    async def main():
        with pytest.raises(BusyError, match="0 requests are under way and 9 more came"):
            await llm.generate(Prompts(["x"]), GREEDY)

    asyncio.run(main())


def test_errors_reach_who_awaits(llm):
    def broken(tokens, logits):
        raise RuntimeError("no")

    async def main():
        with pytest.raises(ContextError, match="9000 tokens"):
            await llm.generate([65] * 9000)
        with pytest.raises(ParameterError, match="empty"):
            llm.stream("")
        with pytest.raises(ParameterError, match="a stream gives all texts"):
            llm.stream("x", SamplingParams(best_of=2))
        with pytest.raises(ParameterError, match="RuntimeError: no"):
            await llm.generate(["x", "y"], [SamplingParams(logits_processors=[broken]), LONG])
        with pytest.raises(ParameterError, match="RuntimeError: no"):
            async for _ in llm.stream("x", SamplingParams(logits_processors=[broken])):
                pass
        await until(lambda: is_idle(llm))

    asyncio.run(main())


def test_closing_ends_what_is_under_way(path):
    before = threading.enumerate()

    async def main():
        async with AsyncLLM(path, n_threads=1) as llm:
            task = asyncio.create_task(llm.generate("x", LONG))
            await until(lambda: llm.llm.scheduler.n_running == 1)
        with pytest.raises(PyinferError, match="closed"):
            await task
        with pytest.raises(PyinferError, match="closed"):
            await llm.generate("x")

    asyncio.run(main())
    assert "pyinfer" not in [thread.name for thread in threading.enumerate() if thread not in before]


def test_one_that_is_closed_takes_nothing_more_and_leaves_a_shared_model_open(path):
    async def main(llm):
        closed = AsyncLLM(llm)
        await closed.generate("x", SamplingParams(max_tokens=2))
        closed.close()
        with pytest.raises(PyinferError, match="the AsyncLLM is closed"):
            await closed.generate("x")
        with pytest.raises(PyinferError, match="the AsyncLLM is closed"):
            closed.stream("x")

    with LLM(path, n_threads=1) as llm:
        asyncio.run(asyncio.wait_for(main(llm), 20))
        assert llm.generate("x", SamplingParams(max_tokens=2, ignore_eos=True)).tokens


def test_a_model_may_be_shared_with_synchronous_callers(path, expected):
    async def main(own):
        async with AsyncLLM(own) as llm:
            stream = llm.stream("Hello", LONG)
            await anext(stream)
            done = await asyncio.to_thread(own.generate, "world", GREEDY)
            await stream.aclose()
            return done.tokens

    with LLM(path, n_threads=1, kv_type="f32") as own:
        assert asyncio.run(main(own)) == expected("world", GREEDY).tokens
        assert own.generate("x", GREEDY).tokens == expected("x", GREEDY).tokens  # it is still open
        with pytest.raises(ParameterError, match="n_ctx: options"):
            AsyncLLM(own, n_ctx=5)
        with pytest.raises(ParameterError, match="max_waiting is -1"):
            AsyncLLM(own, max_waiting=-1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_has_a_thread_of_its_own(llm, expected):
    async def main():
        return (await llm.generate("Hello", GREEDY)).tokens

    assert asyncio.run(main()) == expected("Hello", GREEDY).tokens
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(asyncio.run(main()) != expected("Hello", GREEDY).tokens)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
