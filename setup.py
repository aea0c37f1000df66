from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name: str) -> list:
    """The lines of requirements/NAME.txt, without comments."""
    text = (HERE / 'requirements' / f'{name}.txt').read_text()
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


setup(
    name='ckd_mm',
    version=(HERE / 'ckd_mm' / 'version.py').read_text().split("'")[1],
    description='Checkpoint distillation for OpenMMLab: choose the training checkpoints that teach best, and '
    'distil from them',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    packages=find_packages(include=['ckd_mm', 'ckd_mm.*']),
    package_data={'ckd_mm.report': ['*.j2']},
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    # two stacks provide the same modules, so neither can be a hard requirement: choose one
    extras_require=dict(
        current=requirements('current'),
        classic=requirements('classic'),
        mmrazor=requirements('mmrazor'),
        tests=requirements('tests') + requirements('mmrazor')),
)
