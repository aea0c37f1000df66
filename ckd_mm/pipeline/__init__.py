"""Stages in turn, each done once, resumed where it stopped and written down. Import what you need from the
modules: :mod:`ckd_mm.pipeline.runner` knows the stages of :mod:`ckd_mm.stages`, which know
:mod:`ckd_mm.pipeline.stage`."""
