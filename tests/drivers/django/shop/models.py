"""Models of tables that are there already."""

from django.db import models


class Customer(models.Model):
    name = models.TextField()
    email = models.CharField(max_length=80, null=True)
    born = models.DateField(null=True)
    balance = models.DecimalField(max_digits=12, decimal_places=2)
    active = models.BooleanField()
    profile = models.JSONField(null=True)
    created = models.DateTimeField()

    class Meta:
        db_table, managed = "customer", False


class Purchase(models.Model):
    id = models.BigIntegerField(primary_key=True)
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    sku = models.CharField(max_length=8)
    amount = models.SmallIntegerField()

    class Meta:
        db_table, managed = "purchase", False
