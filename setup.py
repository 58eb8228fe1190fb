"""Build the package from settings.ini, the one place where names, versions and requirements are written."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
config = parser["DEFAULT"]


def requirements(name: str) -> list[str]:
    return config.get(name, "").split()


extras = {
    name: requirements(f"{name}_requirements")
    for name in ("demo", "explore", "server", "mixed", "gpu", "align", "dev")
}

setup(
    name=config["lib_name"],
    version=config["version"],
    description=config["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8")
    if (here / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    keywords=config["keywords"],
    author=config["author"],
    author_email=config["author_email"],
    url=config["git_url"],
    license="Apache-2.0",
    packages=find_packages(include=["mmpc_analysis", "mmpc_analysis.*"]),
    include_package_data=True,
    package_data={"mmpc_analysis": ["data/**/*"]},
    python_requires=f">={config['min_python']}",
    install_requires=requirements("requirements"),
    extras_require=extras,
    entry_points={
        "console_scripts": ["mmpc = mmpc_analysis.study.command_line:main"],
        "nbdev": [f"{config['lib_name']}={config['lib_name']}._modidx:d"],
    },
    zip_safe=False,
)
