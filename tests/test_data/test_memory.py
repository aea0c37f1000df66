import pytest

from ckd_mm.data import memory
from ckd_mm.errors import ConfigError

GB = 1_000_000_000


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for size, rank in memory.LAUNCHERS.items():
        monkeypatch.delenv(size, raising=False), monkeypatch.delenv(rank, raising=False)


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Writes files of another system: path to text, or to {name: number} for a file in the folder each."""
    monkeypatch.setattr(memory, 'ROOT', tmp_path)

    def write(**contents) -> None:
        for path, content in contents.items():
            for name, text in (content.items() if isinstance(content, dict) else [('', content)]):
                file = tmp_path / path / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f'{text}\n')

    return write


# ------------------------------------------------------------ how much is wanted
def test_numbers_of_the_message(monkeypatch):
    """ImageNet, 224 pixels."""
    monkeypatch.setattr(memory, 'available_memory', lambda: 16 * GB)
    with pytest.raises(ConfigError, match=r'1281167 images of 224x224 pixels .* take 192\.9 GB of memory, '
                                          r'and 16\.0 GB are available'):
        memory.require_memory(1_281_167, (3, 224, 224))


@pytest.mark.parametrize(
    'environment, processes', [
        (dict(), 1), (dict(LOCAL_WORLD_SIZE='1', LOCAL_RANK='0'), 1),
        (dict(LOCAL_WORLD_SIZE='8', LOCAL_RANK='0'), 8), (dict(LOCAL_WORLD_SIZE='8', LOCAL_RANK='5'), 3),
        (dict(LOCAL_WORLD_SIZE='8', LOCAL_RANK='7'), 1),
        (dict(OMPI_COMM_WORLD_LOCAL_SIZE='4', OMPI_COMM_WORLD_LOCAL_RANK='1'), 3),
        (dict(SLURM_STEP_TASKS_PER_NODE='8', SLURM_LOCALID='0'), 8),
        (dict(SLURM_STEP_TASKS_PER_NODE='4(x12),3', SLURM_LOCALID='1'), 3),
        (dict(SLURM_STEP_TASKS_PER_NODE='3,4(x12)', SLURM_LOCALID='0'), 4),
        # torchrun started by Slurm: one task on each machine
        (dict(SLURM_STEP_TASKS_PER_NODE='1(x2)', SLURM_LOCALID='0', LOCAL_WORLD_SIZE='2', LOCAL_RANK='0'), 2),
    ], ids=str)
def test_processes_on_this_machine(environment, processes, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(memory, 'available_memory', lambda: processes * 1000 * 12)
    memory.require_memory(1000, (3, 2, 2))
    monkeypatch.setattr(memory, 'available_memory', lambda: processes * 1000 * 12 - 1)
    held = f'in each of {processes} processes take' if processes > 1 else 'channels take'
    with pytest.raises(ConfigError, match=f'1000 images of 2x2 pixels .*{held}'):
        memory.require_memory(1000, (3, 2, 2))


def test_a_process_that_starts_when_the_first_has_decoded(monkeypatch):
    """Two copies of 12 kB fit into 30 kB; the second process finds 18 kB."""
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    for rank, available in ((0, 30_000), (1, 18_000)):
        monkeypatch.setenv('LOCAL_RANK', str(rank))
        monkeypatch.setattr(memory, 'available_memory', lambda available=available: available)
        memory.require_memory(1000, (3, 2, 2))


# ------------------------------------------------------------ how much there is
MEMINFO = {'proc/meminfo': 'MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\nBuffers: 3 kB'}


def test_another_system(files):
    assert memory.available_memory() is None
    memory.require_memory(10**12, (3, 224, 224))


def test_of_the_machine(files):
    files(**MEMINFO)
    assert memory.available_memory() == 8_000_000 * 1024


def group(limit, used: int, inactive: int = 0, active: int = 0) -> dict:
    return {'memory.max': limit, 'memory.current': used, 'memory.stat': 'anon 1\ninactive_file '
                                                                        f'{inactive}\nactive_file '
                                                                        f'{active}\nfile 7'}


def old_group(limit: int, used: int, inactive: int = 0, active: int = 0) -> dict:
    stat = f'inactive_file 1\nactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}'
    return {'memory.limit_in_bytes': limit, 'memory.usage_in_bytes': used, 'memory.stat': stat}


@pytest.mark.parametrize(
    'groups, there', [
        # a container sees its own group as the uppermost
        ({
            'proc/self/cgroup': '0::/', 'sys/fs/cgroup': group(5 * GB, 2 * GB)
        }, 3 * GB), # what files take is given back when it is needed
        ({
            'proc/self/cgroup': '0::/', 'sys/fs/cgroup': group(5 * GB, 4 * GB, inactive=GB, active=2 * GB)
        }, 4 * GB), ({
            'proc/self/cgroup': '0::/', 'sys/fs/cgroup': group('max', 2 * GB)
        }, 8_000_000 * 1024), ({
            'proc/self/cgroup': '0::/', 'sys/fs/cgroup': group(50 * GB, 2 * GB)
        }, 8_000_000 * 1024),  # the machine has less
        # a batch job: the limit is of the job, its steps and tasks have none; the uppermost group has no files of
        # this kind
        ({
            'proc/self/cgroup': '0::/slurm/job_7/step_0/task_1',
            'sys/fs/cgroup/slurm/job_7/step_0/task_1': group('max', GB),
            'sys/fs/cgroup/slurm/job_7': group(4 * GB, 3 * GB), 'sys/fs/cgroup/slurm': group('max', 9 * GB)
        }, GB), ({
            'proc/self/cgroup': '12:cpu,cpuacct:/job\n4:memory:/job/step',
            'sys/fs/cgroup/memory/job/step': old_group(2**63 - 4096, GB),
            'sys/fs/cgroup/memory/job': old_group(6 * GB, 5 * GB, inactive=GB, active=GB)
        }, 3 * GB), # a container of version 1: its path is that outside of it
        ({
            'proc/self/cgroup': '4:memory:/docker/4f7\n0::/', 'sys/fs/cgroup/memory': old_group(2 * GB, GB)
        }, GB), ], ids=str)
def test_of_a_container_or_a_batch_job(groups, there, files):
    files(**MEMINFO, **groups)
    assert memory.available_memory() == there
