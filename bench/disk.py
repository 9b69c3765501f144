"""A file system in a loop-mounted image that can be cut off like a disk without power. Root only; for bench/power_cut.py.

XFS lets two files share blocks: the image's copy is made in an instant, while the file system in it is written.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

INSIDE, OUTSIDE = 2 << 30, 16 << 30  # bytes of the images; sparse


def run(*command: object) -> str:
    """Its output. Raises CalledProcessError with what it complained about on standard error."""
    words = [str(each) for each in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True, timeout=120)
    return done.stdout.strip()


def mount(image: Path, folder: Path, *, around_cache: bool) -> None:
    """Mount it. The loop device goes when it is unmounted."""
    device = run(
        "losetup", f"--direct-io={'on' if around_cache else 'off'}", "--find", "--show", image
    )
    try:
        taken = Path(f"/sys/block/{Path(device).name}/loop/dio").read_text().strip()
        if around_cache and taken != "1":
            raise SystemExit(
                f"{device} does not go around the page cache: the image would hold what a power cut loses"
            )
        folder.mkdir(exist_ok=True)
        run("mount", "-o", "noatime" if around_cache else "noatime,discard", device, folder)
    finally:
        run("losetup", "--detach", device)  # while it is mounted: as soon as it is not


@contextlib.contextmanager
def sharing_disk(folder: Path) -> Iterator[Path]:
    """An XFS whose files can be copied in an instant."""
    image, place = folder / "outside.img", folder / "outside"
    with open(image, "wb") as file:
        file.truncate(OUTSIDE)
    run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    mount(image, place, around_cache=False)
    try:
        yield place
    finally:
        run("umount", place)


class Disk:
    """The file system on which the portal works, and its power."""

    def __init__(self, outside: Path, kind: str) -> None:
        self.outside, self.place, self.number = outside, outside.parent / "inside", 0
        with open(self.image, "wb") as file:
            file.truncate(INSIDE)
        run(f"mkfs.{kind}", "-q", self.image)
        mount(self.image, self.place, around_cache=True)

    @property
    def image(self) -> Path:
        return self.outside / f"inside{self.number}.img"

    def cut(self) -> None:
        """What is on the disk now is what the next `restore` finds. XFS lets no write in while it shares the blocks."""
        run("cp", "--reflink=always", self.image, self.outside / f"inside{self.number + 1}.img")

    def restore(self) -> None:
        """Power again: mount what the cut has left. Nobody uses the old one any more."""
        self.remove()
        self.number += 1
        mount(self.image, self.place, around_cache=True)

    def remove(self) -> None:
        """Unmount and forget it. A check that was running may need a moment to see that its portal is gone."""
        for _ in range(100):
            if (
                subprocess.run(
                    ["umount", self.place], stderr=subprocess.DEVNULL, timeout=120
                ).returncode
                == 0
            ):
                break
            time.sleep(0.05)
        else:
            run("umount", self.place)
        self.image.unlink()
