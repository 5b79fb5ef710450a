"""Is an optional package installed, and what can the user do if it is not?"""

import importlib.util

from utils.errors import UserError


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def require_package(package: str, alternative: str) -> None:
    """Fail with one line before the work starts.

    Args:
        package: the name to import, which is also the name for pip.
        alternative: what the user can do without the package.

    Raises:
        UserError: the package is not installed.
    """
    if not is_installed(package):
        raise UserError(f"{package} is not installed; install it with: pip install {package} ({alternative})")
