"""Two settings compared."""

from ckd_mm.record import differences, flatten, listed


def test_what_differs_is_said():
    before = flatten(dict(a=1, b=[dict(c=2), 3], data_root='here', d=4, e=5))
    assert differences(before, flatten(dict(a=1, b=(dict(c=2), 3), data_root='there', d=4, e=5))) == []
    changed = differences(before, flatten(dict(a=2, b=[dict(c=3), 3, None], d='4', f=None)))
    assert changed == ['a was 1, now 2', 'b.0.c was 2, now 3', "d was 4, now '4'", 'e was 5, now None']
    assert listed(changed) == "a was 1, now 2; b.0.c was 2, now 3; d was 4, now '4' (and 1 more)"
    assert listed(changed[:3]) == "a was 1, now 2; b.0.c was 2, now 3; d was 4, now '4'"
