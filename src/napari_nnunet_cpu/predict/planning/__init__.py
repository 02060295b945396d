"""The plan and the cost of a run before it begins: tiles, seconds, memory."""

from napari_nnunet_cpu.predict.planning.estimate import check_fit, estimate
from napari_nnunet_cpu.predict.planning.memory import check_budget
from napari_nnunet_cpu.predict.planning.plan import Estimate, RunPlan, plan_run
from napari_nnunet_cpu.predict.planning.planned_runs import PlannedRun, planned_runs
from napari_nnunet_cpu.predict.planning.time_model import remember_times
from napari_nnunet_cpu.predict.planning.work import Times, Work
