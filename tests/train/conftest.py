"""What the tests of the engine share: interruptions, damaged checkpoints."""

import gc
import os
import signal

import pytest


@pytest.fixture
def failing_reads():
    """For tests that read a damaged checkpoint; mark them to ignore what it leaves.

    Orbax drops its reads of the other arrays when one fails. They are collected here,
    and not in a test that has nothing to do with them.
    """
    gc.freeze()  # nothing older has to be searched
    yield
    gc.collect()
    gc.unfreeze()


@pytest.fixture
def sigterm_during():
    """`edit = sigterm_during(k)`: a run whose process gets SIGTERM while step k runs.

    For the resident feed, whose plan is asked for just before the step.
    """

    def make(step):
        def edit(run):
            def plan(index):
                if index == step:
                    os.kill(os.getpid(), signal.SIGTERM)
                return run.plan(index)

            return run._replace(plan=plan)

        return edit

    def survive(signum, frame):  # a run that does not listen must not end the tests
        pass

    previous = signal.signal(signal.SIGTERM, survive)
    yield make
    assert signal.getsignal(signal.SIGTERM) is survive
    signal.signal(signal.SIGTERM, previous)
