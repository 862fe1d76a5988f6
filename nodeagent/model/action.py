"""What an intention, or a permission in one, says."""

from typing import Literal

Action = Literal["allow", "deny"]
