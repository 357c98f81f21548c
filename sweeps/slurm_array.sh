#!/bin/bash
# One job per program of a sweep: sbatch --array=0-11 sweeps/slurm_array.sh gpu_minutes
# `purerl sweep FILE --dry-run` prints the numbers of the programs. With --seeds-per-batch none it compiles no program.
# To continue a program that reached its time limit, run the same sbatch command again. Jobs that SLURM requeues
# continue by themselves.
#SBATCH --job-name=purerl
#SBATCH --gpus=1
#SBATCH --time=4:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
srun python -m purerl.sweep "$1" --only "$SLURM_ARRAY_TASK_ID" --time-limit 3:50:00 --checkpoint-every 5 "${@:2}"
