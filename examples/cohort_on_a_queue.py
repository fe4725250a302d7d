"""Register a cohort on the nodes of a queue: `python cohort_on_a_queue.py pairs.csv study`.

Needs `pip install dask-jobqueue`. Each job of the queue is one Dask worker with one registration
at a time; `--queue local` starts the jobs on this machine, to try the script. It may end, or be
ended, at any time: the same command goes on.
"""

import argparse
from pathlib import Path

import dask_jobqueue
from dask_jobqueue.local import LocalCluster
from distributed import Client

import landmark_dir
from landmark_dir.study.how import How

QUEUES = {
    "slurm": dask_jobqueue.SLURMCluster,
    "sge": dask_jobqueue.SGECluster,
    "pbs": dask_jobqueue.PBSCluster,
    "local": LocalCluster,
}
OPTIONS = [  # of each worker
    "--resources landmark_dir=1",  # one registration at a time
    "--lifetime 50m",  # ends before the job's hour is over, ...
    "--lifetime-stagger 5m",  # ... not all at once; what it was at is done again elsewhere
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--queue", choices=QUEUES, default="slurm")
    parser.add_argument("--jobs", type=int, default=10, help="most jobs in the queue at once")
    parser.add_argument("--threads", type=int, default=1, help="of a registration")
    args = parser.parse_args()
    given = {} if args.queue == "local" else {"walltime": "01:00:00"}
    cluster = QUEUES[args.queue](
        cores=args.threads,
        processes=1,
        memory="4GB",
        worker_extra_args=OPTIONS,
        local_directory="/tmp",  # scratch on the node's own disk
        **given,
    )
    with cluster, Client(cluster) as client:
        cluster.adapt(minimum=1, maximum=args.jobs)
        how = How(retries=2, timeout_min=30, memory_gb=4)
        study = landmark_dir.batch(args.pairs, args.out, client=client, how=how)
    print(study.summary())


if __name__ == "__main__":
    main()
