"""What is sampled during runs: clocks, temperatures, power; and what is done to clocks before."""

import dataclasses

import pytest

from keras_hybrid.benchmark.health import host_watch, watch
from keras_hybrid.benchmark.health.clocks import SAVED
from keras_hybrid.benchmark.health.device_state import Core, DeviceState, Rules, warming_of
from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.results import sustained, tables

STATE = DeviceState(
    battery_level=80, battery_c=30.0, charging=False, thermal_status=0, skin_c=31.0, zones_c={},
    screen_on=True, load=0.1, boot_id=None,
    cores=tuple(Core(n, True, "g", 10**6, 3 * 10**6, 3 * 10**6, None) for n in (0, 4)),
)  # fmt: skip
CPU = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}_freq:{}\n"


def look(seconds, clock=2_000_000, allowed=3_000_000, more=""):
    return (
        f"/proc/uptime:{seconds} 99.5\n"
        + CPU.format(0, "cur", 600_000)
        + CPU.format(4, "cur", clock)
        + CPU.format(4, "max", allowed)
        + "/sys/class/thermal/thermal_zone3/temp:41500\n"
        + more
    )


def test_samples_are_read_and_summed_up():
    text = look(10) + look(10.5, 2_800_000) + look(11, 1_000_000, 1_500_000)
    samples = watch.read_samples(text + "grep: noise\n/proc/uptime:\n" + CPU.format(4, "cur", "x"))
    assert [sample.seconds for sample in samples] == [10, 10.5, 11]
    found = watch.summarize_samples(samples, STATE)
    assert found["samples"] == 3 and found["seconds"] == 1
    assert found["clock_khz"]["4"] == [1_000_000, 2_000_000, 2_800_000]
    assert found["hottest_c"] == [41.5, 41.5, 41.5] and "power_mw" not in found
    assert watch.capped_meanwhile(samples, STATE) == [4]
    assert watch.capped_meanwhile(samples[:2], STATE) == []
    assert watch.read_samples("") == [] and watch.summarize_samples([], STATE) == {}


BATTERY = "/sys/class/power_supply/battery/{}_now:{}\n"


@pytest.mark.parametrize(
    "current, charging, power",
    [(-500_000, False, 2000.0), (-500, False, 2000.0), (-500_000, True, None),
     (-500_000, None, None), (0, False, None)],
)  # fmt: skip
def test_power_of_the_battery_is_told_where_it_is_the_phones(current, charging, power):
    more = BATTERY.format("current", current) + BATTERY.format("voltage", 4_000_000)
    samples = watch.read_samples(look(1, more=more) + look(2, more=more))
    state = dataclasses.replace(STATE, charging=charging)
    found = watch.summarize_samples(samples, state)
    assert found.get("power_mw") == power
    if power and current == -500:
        assert "taken as mA" in found["power_source"]
    energy = watch.energy_of(found, {"mean_ms": 10.0, "median_ms": 9.0})
    assert energy == (None if power is None else pytest.approx(20.0))  # 2 W for 10 ms
    times = {"mean_ms": 10.0}
    assert watch.energy_of(found, times, ("--run_frequency=30",)) is None  # pauses draw, too
    assert watch.energy_of(found, times, ("--run_delay=-1",)) == energy


def test_power_of_rails_counts_what_computes_once():
    def rails(cpu, all_of_it):
        folder = "/sys/bus/iio/devices/iio:device0/energy_value:"
        return (
            f"{folder}t=1234\n{folder}CH0(T=5)[S2M_VDD_CPUCL2], {cpu}\n"
            f"{folder}CH1(T=5)[VSYS_PWR_ALL], {all_of_it}\n"
        )

    text = look(1, more=rails(1000, 5000)) + look(3, more=rails(4_001_000, 99_999_999))
    found = watch.summarize_samples(watch.read_samples(text), STATE)
    assert found["power_mw"] == pytest.approx(2000)  # 4 J in 2 s
    assert found["power_source"] == "rails S2M_VDD_CPUCL2"
    assert watch.energy_of(found, {"mean_ms": None, "median_ms": None}) is None


def one_cell(make_models, kind="latency"):
    return [Cell(make_models("a.tflite")[0], 1, "cpu", kind)]


def slow_program(phone, seconds, meanwhile=""):
    """A program that takes a while, during which something happens to the phone."""
    taskset = phone.root / "bin/taskset"
    lines = f"{meanwhile} sleep {seconds}; shift;"
    taskset.write_text(taskset.read_text().replace("shift;", lines))


@pytest.mark.large
def test_clocks_are_sampled_while_the_program_runs(make_phone, run_on, make_models):
    phone = make_phone()
    battery = phone.root / "sys/class/power_supply/battery"
    battery.mkdir(parents=True)
    (battery / "current_now").write_text("-400000\n")
    (battery / "voltage_now").write_text("4000000\n")
    dumpsys = phone.root / "dumpsys/battery"
    dumpsys.write_text(dumpsys.read_text().replace("USB powered: true", "USB powered: false"))
    slow_program(phone, 0.5)
    rows, _, _ = run_on(phone, cells=one_cell(make_models), watch_seconds=0.1)
    (row,) = rows
    assert row.status == "ok" and row.median_ms and row.runs >= 10
    assert row.during["samples"] >= 3
    assert row.during["clock_khz"]["4"] == [1_500_000] * 3
    assert row.during["hottest_c"] == [41.5] * 3
    assert row.during["power_mw"] == pytest.approx(1600)
    assert row.energy_mj == pytest.approx(1.6 * row.mean_ms)
    assert row.state_before["warmer_by_c"] == {"skin": 0.0, "battery": 0.0}
    (cell,) = tables.summarize(rows)
    assert cell.clock_ghz == 1.5 and cell.energy_mj == row.energy_mj
    assert phone.files() == []
    assert not any("keras_hybrid_watch" in note for note in row.notes)


@pytest.mark.large
def test_a_cap_that_is_gone_after_the_run_is_seen(make_phone, run_on, make_models):
    phone = make_phone()
    file = phone.root / "sys/devices/system/cpu/cpu5/cpufreq/scaling_max_freq"
    slow_program(phone, 0.4, f"echo 1000000 > {file}; sleep 0.4; echo 3000000 > {file};")
    rows, _, _ = run_on(phone, cells=one_cell(make_models), watch_seconds=0.1)
    assert {row.status for row in rows} == {"throttled"}
    assert "cores [5] were capped during the run" in rows[0].notes


def test_a_program_that_fails_fails_with_its_own_status(make_phone, run_on, make_models):
    phone = make_phone()
    phone.set_standin_faults(exit_after_result=9)
    rows, _, _ = run_on(phone, cells=one_cell(make_models), watch_seconds=0.1)
    assert "ended with status 3" in rows[0].notes[0]


def test_big_cores_that_are_offline_and_the_cores_that_were_had_are_told(
    make_phone, run_on, make_models
):
    phone = make_phone()
    (phone.root / "sys/devices/system/cpu/cpu6/online").write_text("0\n")
    rows, _, _ = run_on(phone, cells=one_cell(make_models))
    assert rows[0].cpu_mask == "b0"
    assert "cores [6] are offline: the big ones may be among them" in rows[0].notes
    # The phone's `taskset` pins nothing: the kernel of this machine says so.
    assert any("pinned to cores b0, but the kernel allowed" in note for note in rows[0].notes)


def test_without_samples_nothing_is_said_of_clocks(make_phone, run_on, make_models):
    rows, _, _ = run_on(make_phone(), cells=one_cell(make_models), watch_seconds=0.0)
    assert rows[0].during == {} and rows[0].energy_mj is None and rows[0].status == "ok"


def write_tool(phone, name, text):
    path = phone.root / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def clock_files(phone, name):
    folder = phone.root / "sys/devices/system/cpu"
    return [int((folder / f"cpu{n}/cpufreq/{name}").read_text()) for n in (0, 4)]


@pytest.mark.large
def test_clocks_are_locked_on_rooted_phones_and_given_back(make_phone, run_on, make_models):
    phone = make_phone()
    for number in range(8):
        folder = phone.root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        (folder / "scaling_min_freq").write_text("300000\n")
        (folder / "scaling_available_frequencies").write_text("300000 1200000 1500000 2200000 \n")
    write_tool(phone, "id", "#!/bin/sh\necho 0\n")
    script = []
    original = phone.device.start_shell

    def watched(command, merge):
        if "run.pid" in command and "exec" in command:
            script.append((clock_files(phone, "scaling_min_freq"),
                           clock_files(phone, "scaling_max_freq")))  # fmt: skip
        return original(command, merge)

    phone.device.start_shell = watched
    rows, outcome, _ = run_on(phone, cells=one_cell(make_models), lock_clocks=0.75)
    assert outcome.complete, outcome
    assert script == [([1_200_000, 2_200_000], [1_200_000, 2_200_000])]
    assert rows[0].status == "ok"  # a lock is no cap
    assert rows[0].device["locked_khz"]["4"] == 2_200_000
    assert "with locked clocks" in rows[0].conditions[2]
    assert clock_files(phone, "scaling_min_freq") == [300_000, 300_000]
    assert clock_files(phone, "scaling_max_freq") == [1_800_000, 3_000_000]
    assert not (phone.root / SAVED.lstrip("/")).exists()


def test_clocks_of_other_phones_are_not_locked(make_phone, run_on, make_models):
    phone = make_phone()
    write_tool(phone, "id", "#!/bin/sh\necho 2000\n")
    rows, outcome, _ = run_on(phone, cells=one_cell(make_models), lock_clocks=0.75)
    assert rows == [] and "rooted phones alone" in outcome.message
    write_tool(phone, "id", "#!/bin/sh\necho 0\n")
    folder = phone.root / "sys/devices/system/cpu"
    (folder / "cpu0/cpufreq/scaling_min_freq").mkdir()  # a kernel that takes none
    rows, outcome, _ = run_on(phone, cells=one_cell(make_models), lock_clocks=0.75, resume=True)
    assert rows == [] and "did not lock the clocks" in outcome.message
    assert clock_files(phone, "scaling_max_freq") == [1_800_000, 3_000_000]


@pytest.mark.parametrize("changes, message", [({"lock_clocks": 1.5}, "lock_clocks=1.5"),
                                              ({"watch_seconds": 0.001}, "0.001")])  # fmt: skip
def test_impossible_shares_and_intervals_are_refused(make_options, changes, message):
    with pytest.raises(ValueError, match=message):
        make_options(**changes)


def test_the_phone_cools_to_the_temperature_of_the_sessions_start():
    warm = dataclasses.replace(STATE, skin_c=32.5, battery_c=30.2)
    assert warming_of(STATE, warm) == {"warmer_by_c": {"skin": 1.5, "battery": 0.2}}
    assert Rules().warming(STATE, warm) == ["the skin is 1.5 C warmer than at the start"]
    assert Rules().warming(STATE, dataclasses.replace(STATE, skin_c=31.9)) == []
    assert Rules(max_warming_c=2.0).warming(STATE, warm) == []
    assert warming_of(None, warm) == {}


def test_a_warmer_phone_is_waited_for(make_phone, run_on, make_models):
    phone = make_phone()
    slow_program(phone, 0, f"sed -i s/33.5/35.5/ {phone.root}/dumpsys/thermalservice;")
    rules = Rules(cooldown_seconds=0.3, poll_seconds=0.1)
    rows, _, said = run_on(phone, cells=one_cell(make_models), repetitions=2, rules=rules)
    assert "the skin is 2.0 C warmer than at the start" in said
    assert rows[1].state_before["warmer_by_c"]["skin"] == 2.0
    assert rows[1].state_before["waited_seconds"] >= 0.1


@pytest.mark.large
def test_a_cold_start_says_what_the_caches_held(make_phone, run_on, make_models):
    phone = make_phone()
    cells = one_cell(make_models, "cold_start")
    rows, _, _ = run_on(phone, cells=cells)
    assert rows[0].caches["page_cache"].startswith("warm (")
    assert rows[0].init_ms and rows[0].first_ms and rows[0].runs == 1
    assert "none asked for" in rows[0].caches["delegate_cache"]
    drop = phone.root / "proc/sys/vm/drop_caches"
    drop.parent.mkdir(parents=True)
    drop.write_text("")
    flag = "--delegate_serialize_dir=/x"
    rows, _, _ = run_on(phone, cells=cells, resume=True, extra_flags=(flag,))
    assert rows[1].caches["page_cache"] == "dropped" and drop.read_text() == "3\n"
    assert flag in rows[1].caches["delegate_cache"]
    assert tables.summarize(rows) == []  # no latency: it has a table of its own


def test_this_machines_clocks_and_pages(tmp_path):
    folder = tmp_path / "cpu2/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_cur_freq").write_text("1700000\n")
    with host_watch.watch_host(0.01, tmp_path) as found:
        pass
    assert found["clock_khz"] == {"2": [1_700_000] * 3}
    with host_watch.watch_host(0.0, tmp_path) as found:
        pass
    assert found == {}
    (tmp_path / "file").write_bytes(b"x" * 5000)
    assert "pages" in host_watch.drop_pages(tmp_path / "file")


def test_sustained_rows_tell_clocks_and_heat_from_begin_to_end():
    from keras_hybrid.benchmark.rows import Row

    rows = [
        Row(model="m", num_threads=1, target="android", kind="sustained", repetition=n,
            median_ms=10.0 + n, started=f"2026-01-01T00:0{n}:00+00:00",
            during={"clock_khz": {"4": [1, 3_000_000 - n * 500_000, 9]},
                    "hottest_c": [40, 50, 40.0 + n]})
        for n in range(3)
    ]  # fmt: skip
    (run,) = sustained.sustained_runs(rows)
    assert (run.clock_ghz, run.hottest_c) == ((3.0, 2.0), (40.0, 42.0))
    assert "| 40 to 42 | 3 to 2 |" in sustained.sustained_table([run])
