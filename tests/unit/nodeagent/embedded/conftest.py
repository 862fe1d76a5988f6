"""What several tests of the catalog need."""

import pytest

from tests.unit.nodeagent.embedded.desk import Desk


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()
