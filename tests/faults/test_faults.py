"""Every fault of the table."""

from . import files, signals, teachers

FAULTS = {f'{part.__name__.rpartition(".")[2]}: {name}': fault
          for part in (files, signals, teachers) for name, fault in part.FAULTS.items()}
DRAWS = 10  # with --faults all


def pytest_generate_tests(metafunc):
    config = metafunc.config
    rows = [(name, draw) for name, fault in FAULTS.items()
            for draw in range(DRAWS if fault.draws and config.getoption('faults') == 'all' else 1)]
    metafunc.parametrize('name, draw', rows, ids=[f'{name} {draw}' if draw else name for name, draw in rows])


def test_fault(broken, name, draw, pytestconfig):
    fault = FAULTS[name]
    run = broken(fault, f'{name} {draw} {pytestconfig.getoption("seed")}')
    fault.plant(run)
    fault.expected(run)
