"""A guard in which a stop stood still goes once nothing is harmed by it, and not before."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.standing_guard import OWN_S, QUIET_S, Standing, StandingFacts


@dataclass
class Told:
    """What is seen at each look, a second apart."""

    standing: Standing = field(default_factory=Standing)
    now_s: float = 100.0

    def look(
        self,
        times: int = 1,
        *,
        stood_still: bool = True,
        elsewhere: bool | None = False,
        at_work: bool = False,
        on_disk: bool = False,
    ) -> list[bool]:
        found = []
        for _ in range(times):
            facts = StandingFacts(
                now_s=self.now_s, stood_still=stood_still, elsewhere=elsewhere,
                at_work=at_work, on_disk=on_disk,
            )  # fmt: skip
            found.append(self.standing.is_to_go(facts))
            self.now_s += 1
        return found


def test_it_goes_once_all_was_quiet_for_a_while() -> None:
    told = Told()
    assert not any(told.look(100, stood_still=False))
    assert not any(told.look(int(QUIET_S)))
    assert told.look() == [True]


def test_a_stop_of_another_process_is_never_cut_into_however_long_it_takes() -> None:
    told = Told()
    assert not any(told.look(10_000, elsewhere=True))
    assert not any(told.look(int(QUIET_S))), "it may be begun again, by whoever waited for it"
    assert told.look() == [True]


def test_what_it_goes_on_with_itself_is_waited_for_but_not_for_ever() -> None:
    told = Told()
    assert not any(told.look(int(OWN_S), at_work=True))
    assert not any(told.look(int(QUIET_S), at_work=True))
    assert told.look(at_work=True) == [True], "it hangs, as the stop did"
    told = Told()
    for _ in range(20):  # tries that come to their end
        assert not any(told.look(int(OWN_S / 2), at_work=True) + told.look(2))


def test_one_that_could_not_be_ended_or_replaced_stays() -> None:
    told = Told()
    assert not any(told.look(10_000, on_disk=True))
    assert not any(told.look(10_000, elsewhere=None))


looks = st.lists(
    st.fixed_dictionaries(
        {
            "stood_still": st.booleans(),
            "elsewhere": st.sampled_from([True, False, None]),
            "at_work": st.booleans(),
            "on_disk": st.booleans(),
        }
    ),
    max_size=60,
)


@given(looks, st.integers(0, 40))
def test_whatever_came_before_it_goes_only_after_a_quiet_that_was_not_broken(
    before: list[dict[str, bool | None]], quiet: int
) -> None:
    told = Told()
    for each in before:
        harmed = each["elsewhere"] is not False or each["on_disk"] or not each["stood_still"]
        (goes,) = told.look(**each)  # type: ignore[arg-type]
        assert not (goes and harmed)
    told.look(on_disk=True)
    assert not any(told.look(min(quiet, int(QUIET_S))))
    if quiet > QUIET_S:
        assert told.look() == [True]
