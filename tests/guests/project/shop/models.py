"""One model."""

from django.db import models


class Order(models.Model):
    """What was ordered."""

    name = models.CharField(max_length=20)

    class Meta:
        """Where the model belongs, told since there is no AppConfig."""

        app_label = "shop"
