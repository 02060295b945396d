"""Save a run while it computes, find saved runs, and resume them in a later process."""

from napari_nnunet_cpu.predict.resume.identity import describe_run, identity_of
from napari_nnunet_cpu.predict.resume.run_file import RunFile
from napari_nnunet_cpu.predict.resume.run_files import RunFiles
from napari_nnunet_cpu.predict.resume.saved_runs import SavedRun, SavedRunList, saved_runs
from napari_nnunet_cpu.predict.resume.saver import RunSaver
