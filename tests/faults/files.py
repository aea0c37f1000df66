"""Files of a run that are cut, changed, gone or not what they say."""

from .planted import Fault, cut, ends_the_same, flip, goes_on, gone, holds, never_silent, refused

LAST, BEFORE, NOTE = 'student/epoch_2.pth', 'student/epoch_1.pth', 'student/last_checkpoint'
DAMAGED = goes_on('names .*, which is damaged .* going on from')

FAULTS = {
    'nothing': Fault('half', lambda run: None, goes_on()),
    'nothing, finished': Fault('finished', lambda run: None, goes_on()),
    # checkpoints
    'an empty note of the last checkpoint': Fault('half', holds(NOTE, ''), goes_on('names no file')),
    'a note of a file that is gone': Fault('half', gone(LAST), DAMAGED),
    'the last checkpoint is cut': Fault('half', cut(LAST), DAMAGED, draws=True),
    'a bit of the last checkpoint': Fault('half', flip(LAST), ends_the_same, draws=True),
    'no note': Fault('half', gone(NOTE), goes_on()),
    'an old checkpoint is gone': Fault('half', gone(BEFORE), goes_on()),
    # what stages leave
    'stages.json is a list': Fault('half', holds('stages.json', '[]'), refused('stages.json')),
    'stages.json is cut': Fault('half', cut('stages.json'), refused('stages.json'), draws=True),
    'trajectory.json is cut': Fault('half', cut('trajectory.json'), refused('trajectory.json'), draws=True),
    'a bit of weights': Fault('half', flip('**/*.pth'), never_silent, draws=True),
    'a bit of weights, finished': Fault('finished', flip('**/*.pth'), never_silent, draws=True),
    'a file is cut': Fault('half', cut('**/*'), never_silent, draws=True),
    'a file is gone': Fault('half', gone('**/*'), never_silent, draws=True),
    'a file is cut, finished': Fault('finished', cut('**/*'), never_silent, draws=True),
    'a file is gone, finished': Fault('finished', gone('**/*'), never_silent, draws=True),
}
