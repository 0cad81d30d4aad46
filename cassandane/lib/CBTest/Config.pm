# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Config - the text of imapd.conf and cyrus.conf for each role of a test site:
# imap (a mail server that replicates), backup, replica (a sync_server to restore into).
package CBTest::Config;
use strict;
use warnings;
use CBTest::Util qw(is_debian program);

# What every imapd.conf of a site has in common.
sub common
{
    my ($inst) = @_;
    my $dir = $inst->{dir};
    return (
        configdirectory => "$dir/conf",
        temp_path => "$dir/tmp",
        defaultpartition => 'default',
        'partition-default' => "$dir/spool",
        admins => 'cyrus admin',
        allowplaintext => 'yes',
        allowusermoves => 'yes',
        unixhierarchysep => 'no',
        altnamespace => 'no',
        virtdomains => 'off',
        servername => 'localhost',
        sasl_mech_list => 'PLAIN',
        sasl_pwcheck_method => 'auxprop',
        sasl_auxprop_plugin => 'sasldb',
        sasl_sasldb_path => "$inst->{site}{dir}/sasldb2",
        sasl_minimum_layer => '0',
        hashimapspool => 'yes',
        umask => '077',
        syslog_prefix => $inst->{name},
        sync_timeout => '1800',
        duplicatesuppression => 'no',
        anysievefolder => 'no',
        sieveusehomedir => 'false',
        sievedir => "$dir/sieve",
        sieve_maxscriptsize => '1024',
        quotawarnpercent => '0',
        delete_mode => 'delayed',
        expunge_mode => 'delayed',
        idlesocket => "$dir/idle.none",
        imapidlepoll => '0',
        sync_try_imap => 'no',
        sync_authname => 'admin',
        sync_password => 'adminpw',
    );
}

# Options of one sync_client channel.
sub channel
{
    my ($name, $host, $port) = @_;
    my @o = ("${name}_sync_host" => $host);
    push @o, "${name}_sync_port" => $port, "${name}_sync_authname" => 'admin',
        "${name}_sync_password" => 'adminpw'
        if $port;
    return @o;
}

sub imap
{
    my ($inst) = @_;
    my $site = $inst->{site};
    my %o = (
        common($inst),
        lmtpsocket => "$inst->{dir}/conf/lmtp",
        sync_log => 'yes',
        sync_log_channels => join(' ', qw(tcp unix proxy)),
        sync_host => '127.0.0.1',
        sync_port => $site->{port}{backup},
        annotation_allow_undefined => 'yes',
        channel('tcp', '127.0.0.1', $site->{port}{backup}),
        channel('unix', "$site->{dir}/backup/conf/backupd.sock"),
        channel('proxy', '127.0.0.1', $site->{port}{relay}),
        channel('replica', '127.0.0.1', $site->{port}{replica}),
        "tcp_sync_repeat_interval" => 1,
        "proxy_sync_repeat_interval" => 1,
    );
    my @services = (
        [imap => 'imapd', "127.0.0.1:$site->{port}{imap}"],
        [lmtpunix => 'lmtpd', "$inst->{dir}/conf/lmtp"],
        [sieve => 'timsieved', "127.0.0.1:$site->{port}{sieve}"],
        [csync => 'sync_server', "$inst->{dir}/conf/csync.sock"],
    );
    # with httpmodules among the options there is a web server, too
    push @services, [http => 'httpd', "127.0.0.1:$site->{port}{http}"]
        if ($inst->{options} // {})->{httpmodules};
    return (\%o, \@services);
}

sub backup
{
    my ($inst) = @_;
    my ($site, $dir) = @{$inst}{qw(site dir)};
    my %o = (
        common($inst),
        'backuppartition-default' => "$dir/part",
        backup_db => 'twoskip',
        backup_db_path => "$dir/conf/backups.db",
        backup_staging_path => "$dir/staging",
        backup_retention => '7d',
        restore_sync_authname => 'admin',
        restore_sync_password => 'adminpw',
    );
    my $backupd = is_debian() ? 'backupd' : program('backupd');
    my @services = (
        [backupd => $backupd, "127.0.0.1:$site->{port}{backup}"],
        [backupdu => $backupd, "$dir/conf/backupd.sock"],
    );
    return (\%o, \@services);
}

sub replica
{
    my ($inst) = @_;
    my $site = $inst->{site};
    my %o = (common($inst));
    my @services = (
        [imap => 'imapd', "127.0.0.1:$site->{port}{replica_imap}"],
        [csync => 'sync_server', "127.0.0.1:$site->{port}{replica}"],
    );
    return (\%o, \@services);
}

# Texts of both files: (imapd.conf, cyrus.conf).
sub texts
{
    my ($inst) = @_;
    my ($o, $services) = __PACKAGE__->can($inst->{name})->($inst);
    my %all = (%{$o}, %{ $inst->{options} // {} });
    s/%dir%/$inst->{dir}/g for grep { defined } values %all;    # in options of a test
    my $imapd = join '', map { "$_: $all{$_}\n" } grep { defined $all{$_} } sort keys %all;

    my $c = "-C $inst->{dir}/imapd.conf";
    my $maxchild = $inst->{site}{maxchild};
    my $cyrus = "START {\n  recover cmd=\"ctl_cyrusdb -r $c\"\n}\nSERVICES {\n";
    for my $s (@{$services}) {
        $cyrus .= qq(  $s->[0] cmd="$s->[1] $c" listen="$s->[2]" prefork=0 maxchild=$maxchild\n);
    }
    $cyrus .= "}\nEVENTS {\n  checkpoint cmd=\"ctl_cyrusdb -c $c\" period=600\n}\n";
    return ($imapd, $cyrus);
}

1;
