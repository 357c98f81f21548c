#!/bin/bash
# One job per program of a sweep: sbatch --array=0-11 sweeps/slurm_array.sh gpu_minutes
# (`python -m purerl.sweep FILE --dry-run` numbers the programs; with --seeds-per-batch none it compiles none of them.) What ran
# into its time limit goes on when the same sbatch is given again; what SLURM requeues goes on by itself.
#SBATCH --job-name=purerl
#SBATCH --gpus=1
#SBATCH --time=4:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
srun python -m purerl.sweep "$1" --only "$SLURM_ARRAY_TASK_ID" --time-limit 3:50:00 --checkpoint-every 5 "${@:2}"
