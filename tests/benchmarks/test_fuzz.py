import pytest

from benchmarks import fuzz


def test_500_inputs_give_results_or_errors(capsys, tmp_path):
    log = tmp_path / "fuzz.log"
    assert fuzz.main(["--count", "500", "--log", str(log)]) == 0
    assert capsys.readouterr().out == log.read_text()
    assert "wrong inputs: 0" in log.read_text()


@pytest.mark.parametrize("failure", [RuntimeError("x"), "slow"])
def test_what_is_wrong_is_found(monkeypatch, capsys, failure):
    def bad(rng):
        if failure == "slow":
            return None
        raise failure

    monkeypatch.setitem(fuzz.KINDS, "mask", bad)
    if failure == "slow":
        monkeypatch.setattr(fuzz, "SECONDS", -1.0)
    assert fuzz.main(["--count", "2", "--kind", "mask"]) == 1
    assert "wrong inputs: 2" in capsys.readouterr().out
