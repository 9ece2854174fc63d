"""The one build step that setup.cfg cannot express: the wheel carries the TOML files of the top-level folders."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Folder in kerastag/_toml by folder in the checkout; kerastag/_configs.py looks in both.
TOML_FOLDERS = {"recipes": "recipes", "export/targets": "targets"}


class BuildWithTomls(build_py):
    """Copy the TOML files into the package, except for an editable install, which reads them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # An older build may have left files that no longer exist.
        shutil.rmtree(Path(self.build_lib, "kerastag", "_toml"), ignore_errors=True)
        Path(self.build_lib, "kerastag", "_toml").mkdir(parents=True)
        for source, target in self._tomls():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else outputs + [str(target) for _, target in self._tomls()]

    def _tomls(self) -> list[tuple[Path, Path]]:
        return [
            (path, Path(self.build_lib, "kerastag", "_toml", target, path.name))
            for folder, target in TOML_FOLDERS.items()
            for path in sorted(Path(folder).glob("*.toml"))
        ]


setup(cmdclass={"build_py": BuildWithTomls})
