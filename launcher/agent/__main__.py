"""The program beside every job: `run SEGMENT` is the agent proper, `serve` the steward of a machine."""

import sys

USAGE = "usage: agent run SEGMENT | agent serve [--root FOLDER]\n"


def main(argv=None):
    """Returns the exit status; imports only what the chosen face needs."""
    argv = sys.argv[1:] if argv is None else argv
    if sys.version_info < (3, 8):  # the image's own python3; launcher's check of machines is in the bootstrap
        sys.stderr.write("the agent needs Python 3.8, this is %d.%d\n" % sys.version_info[:2])
        return 2
    if argv[:1] == ["run"] and len(argv) == 2:
        from launcher.agent.supervise import supervise

        return supervise(argv[1])
    if argv[:1] == ["serve"]:
        from launcher.agent import serve

        return serve.main(argv[1:])
    sys.stderr.write(USAGE)
    return 2


if __name__ == "__main__":
    sys.exit(main())
