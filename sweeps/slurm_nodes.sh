#!/bin/bash
# One program after another on several nodes. Each node trains a share of the runs:
#     sbatch sweeps/slurm_nodes.sh gpu_minutes
# The folder of the sweep (--out FOLDER) must be on a disk that all nodes can access. JAX reads the coordinator from
# SLURM's environment variables. On other clusters, give --coordinator HOST:PORT --num-processes N --process-id K to
# every process.
#SBATCH --job-name=purerl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=4:00:00
#SBATCH --signal=TERM@120
export JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))  # By default, JAX uses one GPU per task
srun python -m purerl.sweep "$1" --coordinator auto --time-limit 3:50:00 --checkpoint-every 5 "${@:2}"
