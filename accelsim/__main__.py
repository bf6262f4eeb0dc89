"""The entry point of `accelsim` and `python -m accelsim`: hears Ctrl-C before all imports."""

from accelsim.runtime.leaving import leave_on_interrupt


def main() -> None:
    """Run the command line."""
    leave_on_interrupt()
    from accelsim.cli.streams import prepare_streams

    prepare_streams()
    from accelsim.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
